"""Every number of the protocol with its unit and its reason. Numbers only.

clientlib/doc/protocol.md, section 3, is the normative list; a test compares the two.
"""

# The only version there is. `hello` carries a list so that a later one can be offered beside it.
PROTOCOL_VERSION = 1

# --- framing ---------------------------------------------------------------------------------

LENGTH_BYTES = 4

# Bytes of one head. The largest honest heads (64 subjects, a full status) are under 32 KiB, and
# hostile msgpack of this size costs the reader under 5 ms and 5 MB, so it needs no thread.
MAX_HEAD = 64 * 1024

# Attachments of one frame: the most any operation takes is nine (five parts of a signature, a key
# and three files that say where), the rest is room.
MAX_ATTACHMENTS = 16

# Bytes of all attachments of one frame. A bundle is about 10 KiB, a trust root 40 KiB; in-toto
# statements of large builds reach a few MiB, and Rekor takes no more than that.
MAX_ATTACHMENT_BYTES = 16 * 1024 * 1024

# --- shape of a head -------------------------------------------------------------------------

# Containers inside containers: head, body, `accepted`, one signer, its `extensions`.
MAX_DEPTH = 5

# Values in all. A head of nothing but empty maps would otherwise make 65,536 objects.
MAX_NODES = 4096

# Elements of one array and of one map. The longest honest array is 64 subjects, the longest map
# the 25 certificate extensions.
MAX_ARRAY = 256
MAX_MAP = 64

# Bytes of one string and of one binary: a regular expression for an identity is the longest
# text, a SHA-512 digest the longest binary. Anything larger is an attachment.
MAX_STR = 8192
MAX_BIN = 1024

# Integers are those of a signed 64-bit word; every language has it.
MIN_INT = -(2**63)
MAX_INT = 2**63 - 1

# --- connection ------------------------------------------------------------------------------

# Request ids, 1 to this. 0 is left out since it is what an unset field looks like.
MAX_ID = 2**32 - 1

# Requests of one connection that may wait for their answer at once, unless the daemon's
# `welcome` says another number. Enough to keep a log's batch full; few enough to be fair.
MAX_IN_FLIGHT = 64

# How many of them a client may send before it has read `welcome`: no daemon allows fewer.
PIPELINE_BEFORE_WELCOME = 8

# Bytes of attachments of all unanswered requests of one connection: two of the largest.
MAX_OPEN_BYTES = 2 * MAX_ATTACHMENT_BYTES

# --- fields ----------------------------------------------------------------------------------

MAX_AGENT = 128  # characters; "keyless/0.1.0 (python)"
MAX_NAME = 1024  # characters; a file name or an identity as people write them
MAX_TEXT = 2048  # characters; URLs, certificate extension values
MAX_PATTERN = 4096  # characters; a regular expression
MAX_KEY = 128  # characters; an idempotency key
MAX_MESSAGE = 2048  # characters; an error's sentence, hint or fact
MAX_DETAILS = 16  # facts in one error or event
MAX_SUBJECTS = 64  # subjects in the head of one `attest`
MAX_BATCH = 1024  # subjects of one `sign_batch`; the verifier's own bound
MAX_ACCEPTED = 64  # accepted signers of one `verify`
MAX_THRESHOLD = 32  # logs, times or SCTs that `verify` may ask for
MAX_LEDGER = 1000  # records of one `ledger` reply; the file itself has the rest
