"""What a site says, in words that outlive the shape of its records."""

from __future__ import annotations

from typing import Any

from mycelium.jobs.model import Site

# The kinds of event of release 0.1.
JOBS = "JobSubmitted JobReleased JobCancelled JobEnded JobArchived TaskPlaced TaskStopping TaskRequeued TaskEnded"
NODES = "NodeJoined NodeSuspected NodeLost NodeBack NodeDraining NodeDrained NodeReturned NodeLeft"
FIRST_WORDS = {"blocked": "held"}  # what 0.1 called a state
FIRST_KINDS = frozenset(f"{JOBS} StepStarted StepEnded {NODES} AccountAdded TokenReplaced".split())


def facts_of(site: Site) -> dict[str, Any]:
    """Every fact that a person could have seen, by name."""
    return {
        "nodes": {
            node.id: [node.name, node.state, node.lost_count, node.since_ns, node.devices.cpu_m]
            for node in site.nodes.by_id.values()
        },
        "accounts": {
            account.id: [account.name, account.role, account.token_hash, round(account.usage.spent, 6), account.weight]
            for account in site.accounts.by_id.values()
        },
        "jobs": {
            job.id: {
                "account": job.account,
                "state": FIRST_WORDS.get(job.state, job.state),
                "exit_code": job.exit_code,
                "message": job.message,
                "submitted_ns": job.submitted_ns,
                "started_ns": job.started_ns,
                "ended_ns": job.ended_ns,
                "tasks": {
                    str(task.index): [
                        task.state, task.attempt, task.exit_code, list(task.nodes), task.losses, task.failures,
                        [end.outputs if end else None for end in task.ends],
                    ]
                    for task in job.tasks.values()
                },
            }
            for job in site.jobs.by_id.values()
        },
        "keys": {name: list(key.jobs) for name, key in site.jobs.keys.items()},
        "next": [site.nodes.next_number, site.accounts.next_number, site.jobs.next_number],
    }  # fmt: skip
