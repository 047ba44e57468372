"""Every bound of the system, each with its reason. Nothing grows without one."""

from __future__ import annotations

from mycelium.base.units import DAY_S, GIB, HOUR_S, KIB, MIB

# What one request may hold.
NAME_LENGTH_MAX = 128  # names are shown in tables and become parts of paths
COMMAND_BYTES_MAX = 128 * KIB  # Linux's own bound on one argument (MAX_ARG_STRLEN)
COMMAND_WORDS_MAX = 4096
ENV_ENTRIES_MAX = 256
ENV_BYTES_MAX = 64 * KIB  # every event that places the job carries it to a node
ARRAY_TASKS_MAX = 1_000_000  # tasks in one array; one started task costs about 1 KB in the head
AFTER_MAX = 100
INPUT_TREES_MAX = 10_000  # outputs of earlier tasks that one job takes in: each is a line in the order to its node
SELECTOR_TERMS_MAX = 16
OUTPUT_GLOBS_MAX = 32
GANG_NODES_MAX = 1_000  # a site is planned for up to 1,000 nodes
GANG_PORT_FIRST, GANG_PORTS = 20_000, 10_000  # below Linux's ephemeral ports, which begin at 32,768
GANG_PORTS_HELD = 16  # ports that a node keeps free for gangs: more than it runs at once with a cpu each, mostly
RETRIES_MAX = 100
LOSSES_MAX = 10  # attempts lost to dying nodes before the job itself is suspected of killing them
TIME_MS_MAX = 30 * DAY_S * 1000
TIME_MS_DEFAULT = HOUR_S * 1000
GRACE_MS = 10_000  # between SIGTERM and SIGKILL; long enough to write a checkpoint of a few GB
KEY_LENGTH_MAX = 128
JOBS_PER_SUBMIT_MAX = 1_000  # one HTTP request, one group commit
BODY_BYTES_MAX = 8 * MIB  # a JSON body; objects are streamed and have their own bound
QUEUED_JOBS_MAX = 200_000  # a head is tried with 100,000 in under 1 GB
JOBS_SHOWN_MAX = 1_000  # one page of a listing
KEYS_KEPT_S = DAY_S  # how long an idempotency key protects a retry

# Objects and working directories.
OBJECT_BYTES_MAX = 16 * GIB
UPLOAD_BYTES_MAX = 512 * MIB  # the default sum of a working directory: more is usually a mistake (a data set, a venv)
TREE_ENTRIES_MAX = 200_000
OUTPUT_BYTES_MAX = 4 * GIB  # the default sum of what one step's --outputs may match
OBJECT_BATCH_BYTES = 32 * MIB  # small files travel together in requests of about this size
OBJECT_READ_BYTES_MAX = 256 * MIB  # what `read` takes into memory at once; more is read in pieces
BATCH_OBJECTS_MAX = 1_000  # temporary files before a batch makes them durable
PACK_OBJECTS_MAX = 300_000  # objects in one pack: a whole tree of empty files
TREE_BYTES_MAX = 128 * MIB  # an encoded tree; 200,000 entries take about 40 MB
TREE_DEPTH_MAX = 100  # directories within directories: one open file each while a tree is walked
PATH_BYTES_MAX = 4_095  # Linux's own bound (PATH_MAX)
IGNORE_BYTES_MAX = 1 * MIB  # one .gitignore
OBJECT_FRESH_S = 600  # how often at most asking for an object makes it young again (a write to its inode)

# Steps on a node.
LOG_BYTES_MAX = 64 * MIB  # kept of each of stdout and stderr; the oldest is dropped beyond it
LOG_SEGMENT_BYTES = 8 * MIB
PROCESS_LOG_BYTES_MAX = 4 * MIB  # of head.log and its like, which tell a person what went wrong lately
LOG_CHUNK_BYTES = 64 * KIB  # one chunk of a followed log on the wire
STEP_PROCESSES_MAX = 512  # ends a fork bomb early, and is enough for make -j, JVMs and browsers
STEP_FILES_MAX = 4096  # open files of one process of a step
STEP_DISK_BYTES = 10 * GIB  # default bound on what a step may write into its directory
TMP_BYTES_MAX = 1 * GIB  # a step's private /tmp lives in memory
SHM_BYTES_MAX = 1 * GIB  # likewise its /dev/shm
DISK_RESERVE_BYTES = 256 * MIB  # a node starts nothing, and the head accepts nothing, when less is left on its disk

# Head, engine and log.
FRAME_BYTES_MAX = 16 * MIB  # one message between head and agent
BRIDGE_BYTES_MAX = 17 * MIB  # the same on its way through Ray: with what says whose it is
INBOX_COMMANDS_MAX = 10_000  # commands waiting for the head; more are answered `exhausted`
BATCH_COMMANDS_MAX = 1_000  # commands in one transaction of the log
HANDSHAKE_S = 5.0  # for two machines to show each other that they know a key; a stranger is not listened to for longer
HANDSHAKE_ASKED_BYTES_MAX = 1 * KIB  # it is read before the proof: a whole handshake of a stranger is far below 4 KiB
STRANGERS_MAX = 64  # connections at one door that have shown nothing yet: each may cost a thread, or a buffer of TLS
BEAT_MS = 1_000
CLOCK_AHEAD_S = (
    300  # between a machine's clock and the site's: beyond it, times in stories and certificates are nonsense
)
INVITE_S = DAY_S  # how long a one-time token lets a machine in
NODES_WAITING_MAX = 64  # machines that ask and nobody has let in yet; who has the site's token can make up any number
NODE_ASKING_S = 12 * HOUR_S  # one of those is declined when it has not asked for so long: a night, not a weekend
NODES_LEFT_MAX = 1_000  # nodes that left and are known if they come again: as many as a site is planned for
NODE_SUSPECT_S = 3
NODE_LOST_S = 15
EVICTIONS_PER_MINUTE = 2  # nodes that may be declared lost a minute, or a tenth of the site if that is more
ORDER_RESEND_MS = 3_000  # an order that nobody answered is sent again
ORDERS_REMEMBERED_MAX = 10_000  # moments of sending that the head keeps before it drops those that no longer matter
PLACEMENTS_PER_PASS = 4_000  # what one pass may place, so that one transaction stays short
FOLLOWERS_MAX = 256  # open event streams (logs, events)
EVENT_BYTES_MAX = 32 * MIB  # one event: more than any request can ask for, and far below what a row may hold
EVENT_KIND_LENGTH_MAX = 64
LOG_PAGE_EVENTS = 500  # events read in one query, so that a long reading holds neither memory nor a transaction
LOG_KEEP_S = 30 * DAY_S  # events older than this leave the log for a file, unless `log_keep` says otherwise
LOG_EVENTS_MAX = 1_000_000  # or when there are more than this many: about 600 MB, whatever their age
LOG_FILE_EVENTS = 50_000  # exported and dropped at once: a file of about 5 MB, so that a year's are some hundred
LOG_DROP_EVENTS = 500  # in one transaction of that: an append waits for one at most, which takes some milliseconds
SNAPSHOTS_KEPT = 2  # the older one is what a corrupt newest falls back to
SNAPSHOT_PART_BYTES = 1 * MIB  # a snapshot is written in parts, so that an append waits for one part at most
SHAPES_REMEMBERED_MAX = 10_000  # requests of different shape that are known to fit some node
SNAPSHOT_EVENTS = 20_000  # events between snapshots: about a second of replay
RETAIN_ENDED_S = 7 * DAY_S  # ended jobs stay in memory this long, then live in the archive
RETAIN_ENDED_MAX = 20_000  # or until there are more than this many
USAGE_HALF_LIFE_S = 7 * DAY_S  # fair share forgets half of what an account used in this time

# Polymer.
PROGRAM_OPS_MAX = 100_000  # operations of one graph: about 40 MB while it is built
PROGRAM_KERNELS_MAX = 4_096
FUSED_STEPS_MAX = 256  # calls in one fused kernel: compiling grows faster than their number
TYPE_DEPTH_MAX = 32
CONTAINER_BYTES_MAX = 256 * MIB  # a .pmr as it lies on disk, and what it may unpack to
CONTAINER_PARTS_MAX = 8_192
CONTAINER_SIGNATURES_MAX = 16
POOL_WORKERS_MAX = 1_024
POOL_KERNELS_MAX = 1_024  # kernels that a pool keeps in its workers; the oldest is forgotten beyond it
POOL_DEATHS_MAX = 6  # workers that one call may lose before it is suspected of killing them
RAY_LENT_BYTES_MAX = 256 * MIB  # arrays that a pool over Ray keeps there, for whoever is sent them next
RUN_COPIES_SHARE = 10  # straggler copies: at most one slot in so many, and always one
MEMO_BYTES_MAX = 256 * MIB  # results kept in memory by (kernel, inputs)
RESULTS_BYTES_MAX = 2 * GIB  # results that a person's programs keep on disk between runs
PAGE_BYTES_MAX = 32 * MIB  # of kept results of one kernel that a job takes from earlier ones, and leaves to later ones
PAGE_RESULTS_MAX = 65_536
PAGES_MAX = 4  # of one kernel that a job begins with: what jobs that ran at the same time left
PAGES_BYTES_MAX = 256 * MIB  # in all
PAGES_JOBS_MAX = 256  # earlier jobs of the account that are asked for pages
RESULT_PAGES_MAX = 10_000  # of them on disk, each with up to 16 MiB of results: a file and a link
WASM_FUEL_DEFAULT = 1_000_000_000  # about a second of work
WASM_MEMORY_BYTES_DEFAULT = 64 * MIB
XLA_CONSTANT_BYTES_MAX = 64 * MIB  # literals inside one module
XLA_OPERATIONS_MAX = 100_000
XLA_TENSOR_BYTES_MAX = 16 * GIB  # the largest tensor of fixed shape inside one module
WASM_FUEL_MAX = 1_000_000_000_000
WASM_MEMORY_BYTES_MAX = 4 * GIB  # what 32-bit WebAssembly can address
VERIFY_TIME_MS = 20_000  # parsing and walking one module in the throw-away process
VERIFY_MEMORY_BYTES = 4 * GIB
VALUES_BODIES_MAX = 65_536  # arrays in one file of values
LOCAL_RUN_MS = 3_600_000  # a program whose author is not trusted, on this machine, unless --time says otherwise
LOCAL_RUN_MEMORY_BYTES = 4 * GIB  # the same, unless --memory does
PROGRAM_CHECK_S = 60  # of a submitted container and its inputs, in the throw-away process
PROGRAM_CHECKS_MAX = 2  # at once: they are somebody else's work on the head's machine
PROGRAM_CHECKS_WAITING_MAX = 64
GANG_MESSAGE_BYTES_MAX = 4 * GIB  # one batch of calls or results between two ranks
FAILURE_TRACE_BYTES_MAX = 32 * KIB  # of a traceback that travels to the caller of a program

# Scheduling.
SHARE_HORIZON_S = HOUR_S  # a placement counts against its account as if it ran this long: the usual time limit
JOBS_KEPT_FOR_MAX = 8  # jobs that cannot start and for which a pass keeps nodes; one a shape, the first in order
TERMS_REMEMBERED_MAX = 1_024  # selector terms whose nodes are remembered: a byte a node each
FORECAST_WORK_MAX = 600  # of one look ahead, and of all that seek the smallest change; see jobs/forecast.py
TASKS_AVERAGED_MAX = 200  # finished tasks of an array whose mean time is taken for the next
HOLDERS_NAMED = 3  # jobs that `why` names as those who hold what another waits for
AHEAD_SHOWN = 3  # jobs ahead that `why` names; a person reads no more

# Inference.
MODELS_MAX = 1_000
DEPLOYMENTS_MAX = 200  # each is a line in the table that every gateway keeps
REPLICAS_MAX = 256  # of one deployment
PARALLEL_MAX = 512  # requests that one replica works on at once: what vLLM takes by default is 256
CONTEXT_TOKENS_MAX = 1 << 20
KEYS_MAX = 10_000
FILES_MAX = 10_000
BATCHES_MAX = 200  # that have not ended, and as many that have
BATCH_LINES_MAX = 50_000  # what OpenAI's API allows
BATCH_FILE_BYTES_MAX = 200 * MIB  # likewise
BATCH_WINDOW_S = DAY_S
BATCH_MISTAKES_MAX = 100  # of one file; who made more has seen enough
COMPLETION_BYTES_MAX = 8 * MIB  # the body of one request to a model
GATEWAYS_MAX = 16  # of one site: each may hold a CPU, and all of them ask one head
GATEWAY_CONNECTIONS_MAX = 4_096  # of clients at one gateway; twice what may wait, as idle ones are kept open
QUEUE_REQUESTS_MAX = 2_000  # that wait at one gateway; more are answered 429
QUEUE_KEY_REQUESTS_MAX = 500  # of one key
ANSWER_BYTES_MAX = 64 * MIB  # of one model's answer that is not streamed
REQUEST_TIME_S = 600  # the longest a request may wait and run
PASSAGES_MAX = 1_024  # connections of gateways to the replicas of one machine: two replicas at PARALLEL_MAX
REPLICA_TRIES_MAX = 3  # replicas that a request is offered to while none has sent a byte
