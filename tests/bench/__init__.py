"""Speed of kmipd and custody on one core, beside PyKMIP's server and a bare OpenSSL server, in one interleaved run."""
