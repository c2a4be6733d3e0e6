"""The pages: for users of a customer, rendered on the server, alive by htmx partials."""

BLUEPRINTS: tuple = ()
