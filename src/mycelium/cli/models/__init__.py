"""Commands of language models: fetch, serve, ask, and batches of requests.

This table alone is read by `myc --help`; the module behind a command is imported when it is called.
"""

from mycelium.cli.command import Command

COMMANDS = {
    "model pull": Command("model:pull", "Models", "fetch a language model to the site"),
    "model list": Command("model:list_models", "Models", "list the models that the site has"),
    "model show": Command("model:show_model", "Models", "everything about one model"),
    "model remove": Command("model:remove", "Models", "take a model out of the catalogue"),
    "serve": Command("serve:serve", "Models", "serve a model to everybody with a key"),
    "chat": Command("chat:chat", "Models", "talk with a model"),
    "deployment list": Command("deployment:list_deployments", "Models", "what is served, and how it stands"),
    "deployment show": Command("deployment:show_deployment", "Models", "everything about one deployment"),
    "deployment top": Command("deployment:top", "Models", "what every replica does, and how fast"),
    "batch submit": Command("batch:submit", "Models", "submit a file of requests, to be worked off in idle time"),
    "batch list": Command("batch:list_batches", "Models", "list the batches"),
    "batch show": Command("batch:show_batch", "Models", "how far a batch is"),
    "batch results": Command("batch:results", "Models", "the results of a batch"),
    "batch cancel": Command("batch:cancel", "Models", "run no more of a batch"),
    "key create": Command("key:create", "Models", "make a key and print it, once"),
    "key list": Command("key:list_keys", "Models", "list the keys and what was used with them"),
    "key revoke": Command("key:revoke", "Models", "end a key"),
}
