"""Parameters that are small tables: a threshold by field, by night, by band."""

from filters.tables.tables import Group, each_value, groups, is_table, read_table, text_of

__all__ = ["Group", "each_value", "groups", "is_table", "read_table", "text_of"]
