"""Filters of whole exposures.

They are named by module, `filters.exposures.trails:no_trail`: a run for which nobody names channels does not
wait for exposures.
"""
