//! What stands around a statement: findings, guesses, rejected branches, corrections, noise.

use super::{Wording, wording};

/// What stands before a confirmed finding.
pub(in crate::episodes) const FINDING: Wording = wording!(
    [
        "{s}",
        "{s}",
        "{s}",
        "{s}",
        "[in|from|] part {n}: {s}",
        "it [turns|turned] out that {s}",
        "[confirmed|note|noted|found|new|result]: {s}",
        "part {n} [says|shows|tells us] that {s}",
        "we [now|] know that {s}",
        "[now|also] we [know|see] that {s}",
        "it is [clear|confirmed|true] that {s}",
        "from part {n} we know that {s}",
        "part {n}, [confirmed|new|note]: {s}"
    ],
    ["{s}", "part {n} says: {s}", "now confirmed: {s}", "part {n} confirmed that {s}"]
);

/// A guess; what it states never counts.
pub(in crate::episodes) const HYPOTHESIS: Wording = wording!(
    [
        "[perhaps|maybe] {s}",
        "[hypothesis|guess|a guess|a first guess|not sure|not confirmed|new hypothesis]: {s}",
        "it [could|may] be that {s}",
        "[maybe|perhaps] it is so that {s}",
        "the [hypothesis|guess] is that {s}",
        "[my|a|one] [hypothesis|guess] is that {s}",
        "we guess that {s}",
        "[perhaps|maybe|a guess], not sure: {s}",
        "[not confirmed|not sure], but perhaps {s}",
        "[perhaps|maybe]: {s}",
        "it is not confirmed that {s}"
    ],
    ["a hypothesis: {s}", "perhaps it could be that {s}", "maybe, not confirmed: {s}"]
);

/// A branch that was given up; what it states never counts.
pub(in crate::episodes) const REJECTED: Wording = wording!(
    [
        "[rejected|ruled out|wrong|wrong branch|dead end|not so|proved not true]: {s}",
        "it is [not true|not so|wrong] that {s}",
        "we [ruled out|now rule out] that {s}",
        "it [proved|turned out] [wrong|not true] that {s}",
        "[rejected|ruled out] now: {s}",
        "[a|the] [dead end|wrong branch]: {s}",
        "[rejected|wrong], a dead end: {s}",
        "that {s} is [not true|wrong|rejected|ruled out]",
        "the guess was wrong that {s}"
    ],
    ["not true: {s}", "we rejected that {s}", "proved wrong: {s}"]
);

/// A correction; the last one counts.
pub(in crate::episodes) const CORRECTION: Wording = wording!(
    [
        "[correction|update|corrected|later|a second look|new correction]: {s}[, not {old}|]",
        "[correction|update|corrected|later|now corrected]: {s}[, not {old}|]",
        "second look: {s}",
        "on a second look {s}",
        "[after|from] a second look {s}[, not {old}|]",
        "the [first|old|] note was wrong: {s}[, not {old}|]",
        "[now|later] {s}, not {old}",
        "it [turns|turned] out that {s}, not {old}",
        "[correction|update], part {n}: {s}[, not {old}|]",
        "corrected in part {n}: {s}[, not {old}|]"
    ],
    [
        "later correction: {s}",
        "second look: {s}, not {old}",
        "update, corrected: {s}",
        "on a second look {s}, not {old}"
    ]
);

/// Tool output that finds nothing.
pub(in crate::episodes) const TOOL_NOISE: Wording = wording!(
    [
        "grep {e}: [no match|nothing] in part {n}",
        "read part {n}: [nothing new|done|no new items]",
        "open part {n}: [done|nothing]",
        "scan of part {n}: [no new items|nothing new|{n} lines]",
        "read part {n}: done, {n} lines",
        "grep {e}: {n} lines, nothing new",
        "look for {e} in part {n}: no match"
    ],
    ["grep {e} in part {n}: nothing", "scan of part {n}: done", "open part {n}: {n} lines, nothing new"]
);

/// The orchestrator thinking aloud.
pub(in crate::episodes) const REASONING_NOISE: Wording = wording!(
    [
        "next comes part {n}",
        "part {n} was a dead end",
        "{e} is only named in part {n}",
        "[back|now] to part {n}",
        "part {n} has nothing new on {e}",
        "look [at|in] part {n} next",
        "there is no more on {e}",
        "[next|now] look for more on {e}",
        "in part {n} there is nothing on {e}",
        "what do we know of {e}"
    ],
    ["next, back to part {n}", "there is nothing new in part {n}", "look for {e} in part {n} next"]
);
