"""The portable archive of wrapped objects: taken online, proven through custody, restored by merging."""
