"""Stage `shard`: kept captions and picture bytes become webdataset tars, with an index and checksums."""
