"""The HTTP doors: routes, limits, answers, and the receipt that proves a delivery."""
