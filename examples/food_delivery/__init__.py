"""Food delivery: order a meal on one page, carry it on the other, and pull the plug whenever you
like."""
