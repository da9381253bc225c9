"""The demonstration: a real cluster, the operator, the custom resources, and clients that behave like vCenter."""
