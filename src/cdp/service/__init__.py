"""Service: tickets, calls, answers, complaints and reviews, as events tell of them."""
