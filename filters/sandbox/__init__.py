"""Strangers' Python, judged in a process that can do nothing but compute."""
