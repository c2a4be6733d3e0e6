"""`stripe push`: what the catalog sells, at Stripe."""

from collections import Counter

import click

from metering.cli.common import actor, current_metering, explained, json_option, print_json
from metering.stripe_sync.push.plan import Action, Step, changes
from metering.stripe_sync.push.run import look, push

SIGNS = {Action.CREATE: "+", Action.UPDATE: "~", Action.SAME: "=", Action.DEACTIVATE: "-"}


@click.command("push")
@click.option("--dry-run", is_flag=True, help="Show what there is to do, and do nothing.")
@click.option("--yes", is_flag=True, help="Do it without asking.")
@json_option
def push_catalog(dry_run: bool, yes: bool, as_json: bool) -> None:
    """Make the catalog's meters, products and prices at Stripe, or find those that are there.

    Nothing is deleted, and no price is changed: a new one takes its place, and old subscriptions keep theirs.
    """
    runtime = current_metering().runtime
    with explained():
        steps = look(runtime)
        wanted = changes(steps)
        if not as_json:
            _show(steps)
        if not dry_run:
            if wanted and not yes:
                click.confirm("Do this at Stripe?", abort=True, err=True)
            steps = push(runtime, wanted, actor=actor())
    if as_json:
        print_json({"done": not dry_run, "steps": [_plain(step) for step in steps]})
    elif wanted:
        click.echo("nothing was done" if dry_run else "done", err=True)


def _show(steps: list[Step]) -> None:
    """The steps as a diff, those that do nothing as a number."""
    for step in changes(steps):
        click.echo(f"{SIGNS[step.action]} {step.kind:<8} {step.key}  {step.says}")
    counts = Counter(step.action for step in steps)
    said = [f"{counts[action]} to {action}" for action in Action if action is not Action.SAME and counts[action]]
    click.echo(", ".join([*said, f"{counts[Action.SAME]} as they are"]) if said else "nothing to do")


def _plain(step: Step) -> dict[str, object]:
    return {"action": step.action, "kind": step.kind, "key": step.key, "id": step.id, "says": step.says}
