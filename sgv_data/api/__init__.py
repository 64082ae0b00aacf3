"""Talking to a captioning provider: client, limits, failure classes, prices, budget, reply cache. Knows no stages."""
