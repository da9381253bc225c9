"""The commands of kmipd."""
