"""The files and messages that the operator, kmipd and custody exchange; imports none of them."""
