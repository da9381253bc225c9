"""ClientCertificate: who an instance serves, and what they may do."""
