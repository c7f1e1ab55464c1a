"""Files that users send: read in the sandbox, and nothing but plain columns comes back."""
