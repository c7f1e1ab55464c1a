"""The filters for Rubin alerts, one file a science case."""
