"""Stage `publish`: the shards become a dataset folder laid out as a repository on the Hub, with its card."""
