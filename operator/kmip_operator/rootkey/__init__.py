"""RootKey: the key in a key manager that wraps every key of the instances that refer to it."""
