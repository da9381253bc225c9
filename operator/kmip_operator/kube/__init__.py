"""What the operator does with the Kubernetes API: requests, caches, the work queue, the Lease, the pods' status port."""
