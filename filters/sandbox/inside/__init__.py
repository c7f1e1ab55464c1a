"""What runs within the sandbox: the zygote and the confined processes that are forked from it."""
