"""Plan which pending events become which samples of a scrape response."""
