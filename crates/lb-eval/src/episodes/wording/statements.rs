//! How a fact is stated: frames that fit every relation, and each relation's own verbs.

use super::{Wording, wording};
use crate::episodes::world::Relation;

/// What a relation is called; `{r}` in the frames.
pub(in crate::episodes) fn noun(relation: Relation) -> &'static str {
    match relation {
        Relation::Keeper => "keeper",
        Relation::Place => "location",
        Relation::Code => "code",
        Relation::Status => "status",
        Relation::Rating => "rating",
        Relation::Link => "link",
        Relation::Base => "base",
    }
}

/// A relation's own verbs.
pub(in crate::episodes) fn statement(relation: Relation) -> Wording {
    match relation {
        Relation::Keeper => KEEPER,
        Relation::Place => PLACE,
        Relation::Code => CODE,
        Relation::Status => STATUS,
        Relation::Rating => RATING,
        Relation::Link => LINK,
        Relation::Base => BASE,
    }
}

/// Frames for every relation; a relation that holds one of them out does not train on it.
pub(in crate::episodes) const FRAMES: &[&str] = &[
    "the {r} of {e} is {v}",
    "{r} of {e}: {v}",
    "{r} for {e}: {v}",
    "{v} is the {r} of {e}",
    "for {e} the {r} is {v}",
    "{v} is [listed|named|given] as [the|] {r} of {e}",
    "{e} has a {r}, {v}",
    "{e} has {v} as {r}",
    "{e} has {v} as its {r}",
    "{e} has [the|a] {r} {v}",
    "{e} is [listed|named] with [the|] {r} {v}",
    "[we have|part {n} gives|part {n} has] {v} as [the|] {r} of {e}",
    "as {r} of {e} [part {n} gives|part {n} has|we found|we know] {v}",
    "as {r} for {e} [part {n} gives|we found|we have] {v}",
    "{e}: {r} {v}",
    "{e}: the {r} is {v}",
    "{e}, {r} {v}",
    "{v}: {r} of {e}",
    "it is {v} that is the {r} of {e}",
    "the {r} [listed|given|found] for {e} is {v}",
    "the {r} that {e} has is {v}",
    "{e} carries {r} {v}",
    "{e} [carries|shows] the {r} {v}",
    "{v} is what part {n} gives as [the|] {r} of {e}",
    "{e} and its {r}, {v}, are in part {n}",
];

const KEEPER: Wording = wording!(
    [
        "{e} is kept by {v}",
        "{v} keeps {e}",
        "{e} is in the care of {v}",
        "{v} takes care of {e}",
        "{e} was [given|moved|sent] to {v} to keep",
        "it is {v} who keeps {e}",
        "{e} is [now|still] kept by {v}",
        "{v} [now|still] keeps {e}",
        "[the person|the one] who keeps {e} is {v}",
        "{v} is the [person|one] who [keeps|takes care of] {e}",
        "{e} is kept, and [it is {v} who keeps it|{v} keeps it]",
        "kept by {v}: {e}",
        "in the care of {v}: {e}",
        "{v} has {e} in care",
        "{v} was given {e} to keep"
    ],
    [
        "{e}: kept by {v}",
        "{e} has {v} as keeper",
        "as keeper of {e} we have {v}",
        "it is {v} who takes care of {e}"
    ]
);

const PLACE: Wording = wording!(
    [
        "{e} is stored in {v}",
        "{v} holds {e}",
        "{e} lies in {v}",
        "{e} [can be|was] found in {v}",
        "{e} was [moved|sent] to {v}",
        "in {v} we found {e}",
        "{e} has its place in {v}",
        "it is {v} that holds {e}",
        "{e} is [now|still] in {v}",
        "{e}: stored in {v}",
        "{e} is [now|still] stored in {v}",
        "{v} is the place [of|for] {e}",
        "{v} is where {e} [is stored|can be found|is]",
        "[the place|where] to look for {e} is {v}",
        "{e}: in {v}",
        "in {v}: {e}",
        "found in {v}: {e}",
        "it is in {v} that {e} [lies|is stored]"
    ],
    [
        "stored in {v}: {e}",
        "{v} is where {e} lies",
        "{e} has {v} as location",
        "as location of {e} we have {v}"
    ]
);

const CODE: Wording = wording!(
    [
        "the code of {e} is {v}",
        "{e} opens with {v}",
        "code {v} [belongs to|opens|is for] {e}",
        "to open {e} use [code|] {v}",
        "[with|by] {v} you can open {e}",
        "{e} opens with code {v}",
        "{v} is [used|the code] to open {e}",
        "{e} can be opened with {v}",
        "you open {e} with {v}",
        "use code {v} to open {e}",
        "use {v} [on|for] {e}",
        "{e}: {v} opens it",
        "{v} belongs to {e}",
        "{e} is opened by {v}"
    ],
    ["{e} carries code {v}", "{v} opens {e}", "as code of {e} we have {v}", "use {v} to open {e}"]
);

const STATUS: Wording = wording!(
    [
        "{e} is {v}",
        "{e} was found {v}",
        "the scan shows {e} as {v}",
        "{e} is [listed|given|found] as {v}",
        "scan of {e}: {v}",
        "{e}: {v}",
        "the scan [has|finds] {e} {v}",
        "{e} is [now|still] {v}",
        "we found {e} {v}",
        "{e} [turns out to be|proved] {v}",
        "listed as {v}: {e}",
        "found {v}: {e}"
    ],
    ["{e} has status {v}", "the scan shows {e}: {v}", "as status of {e} we have {v}"]
);

const RATING: Wording = wording!(
    [
        "{e} is rated {v}",
        "{e} scores {v}",
        "{e} gets [a rating of|the rating|a] {v}",
        "{e} was given a {v}",
        "rated {v}: {e}",
        "{e} was rated {v}",
        "{e} was given [a rating of|the rating] {v}",
        "we [rated|rate] {e} {v}",
        "part {n} [rates|rated] {e} {v}",
        "{e} is [now|still] rated {v}",
        "{e} comes out with a {v}",
        "a {v} for {e}",
        "{e}: rated {v}",
        "{e}: {v}"
    ],
    ["{v} is the rating of {e}", "{e} has a rating of {v}", "as rating of {e} we have {v}"]
);

const LINK: Wording = wording!(
    [
        "{e} points to {v}",
        "{e} refers to {v}",
        "{e} leads to {v}",
        "the link in {e} is to {v}",
        "{e} is linked to {v}",
        "from {e} we are led to {v}",
        "the link of {e} [points|is|goes] to {v}",
        "{e} carries a link to {v}",
        "in {e} [there is|we found] a link to {v}",
        "{e} [now|still] [points|refers|leads] to {v}",
        "from {e} we [go|come] to {v}",
        "from {e} the link [goes|points] to {v}",
        "{e} [goes|points] on to {v}",
        "what {e} [points|refers] to is {v}",
        "{e}: link to {v}",
        "{e} has the link to {v}"
    ],
    ["{e} has a link to {v}", "from {e} the link leads to {v}", "the link of {e} leads to {v}"]
);

const BASE: Wording = wording!(
    [
        "{e} works in {v}",
        "{e} has an office in {v}",
        "the office of {e} is in {v}",
        "{e} is based in {v}",
        "{v} is where {e} works",
        "{e} was sent to work in {v}",
        "office of {e}: {v}",
        "it is {v} where {e} works",
        "{e} [now|still] works in {v}",
        "{e} is [now|still] based in {v}",
        "{e}: [office|based|works] in {v}",
        "{v} is where the office of {e} is",
        "in {v} [is|there is] the office of {e}",
        "you can find {e} in {v}",
        "{e} can be found at work in {v}",
        "the place where {e} works is {v}",
        "{e} was [moved|sent] to the office in {v}"
    ],
    ["{e} has {v} as base", "the base of {e} is {v}", "{v} is where {e} is based"]
);
