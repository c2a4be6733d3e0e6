"""Reports usage to Stripe's billing meters and follows what Stripe says back.
Every unit is reported once, under an identifier that makes a second report harmless."""
