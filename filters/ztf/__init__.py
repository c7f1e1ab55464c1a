"""The filters for ZTF alerts, one file a science case."""
