"""The catalog to Stripe: what is sold becomes meters, products and prices there, once, and their ids are kept here.

`wanted` says what there must be, `plan` what is to be done about it, both pure; `objects` does it at Stripe, `stored`
keeps the ids, `run` puts them together.
"""
