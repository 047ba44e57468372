"""Commands of jobs: run them, follow them, ask why.

This table alone is read by `myc --help`; the module behind a command is imported when it is called.
"""

from mycelium.cli.command import Command

COMMANDS = {
    "run": Command("run:run", "Jobs", "run a command, with the current directory, and show what it prints", runs=True),
    "submit": Command("submit:submit", "Jobs", "submit the job that a file describes"),
    "jobs": Command("jobs:jobs", "Jobs", "list jobs"),
    "job show": Command("jobs:show_job", "Jobs", "everything about one job or task"),
    "logs": Command("logs:logs", "Jobs", "what a job printed"),
    "attach": Command("logs:attach", "Jobs", "follow a job as `myc run` does"),
    "cancel": Command("jobs:cancel", "Jobs", "end a job, or one task of an array"),
    "outputs": Command("outputs:outputs", "Jobs", "fetch the files that a job kept"),
    "why": Command(
        "why:why", "Answers", "why a job waits, when it is expected to start, and what would start it sooner"
    ),
    "story": Command("why:story", "Answers", "everything that happened to a job, in order"),
}
