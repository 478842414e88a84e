"""Tags whose definition is built in: RFM, customer value, churn, health, NPS, lifecycle and more.

Each formula is a pure file over arrays; what it needs is read by the ``*_engine.py`` beside it.
"""
