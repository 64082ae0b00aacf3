"""What a run will cost, before it is begun: pictures, tokens, money, time and disk. Spends nothing."""
