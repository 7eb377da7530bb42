//! How a fact is stated: frames that fit every relation, and each relation's own verbs.
//!
//! A statement names its subject before its value. A causal worker can then bind the value to its subject where the
//! value stands; in the other order the value's own keys cannot know the subject, and a worker of the built-in one's
//! size does not learn to answer from it (40 % against 95 % of one-hop questions, in training).

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
    "for {e} the {r} is {v}",
    "{e} has a {r}, {v}",
    "{e} has {v} as {r}",
    "{e} has {v} as its {r}",
    "{e} has [the|a] {r} {v}",
    "{e} is [listed|named] with [the|] {r} {v}",
    "as {r} of {e} [part {n} gives|part {n} has|we found|we know] {v}",
    "as {r} for {e} [part {n} gives|we found|we have] {v}",
    "{e}: {r} {v}",
    "{e}: the {r} is {v}",
    "{e}, {r} {v}",
    "the {r} [listed|given|found] for {e} is {v}",
    "the {r} that {e} has is {v}",
    "{e} carries {r} {v}",
    "{e} [carries|shows] the {r} {v}",
    "{e} and its {r}, {v}, are in part {n}",
    "of {e} we [know|have] the {r}: {v}",
    "what we [know|have] as {r} of {e} is {v}",
];

const KEEPER: Wording = wording!(
    [
        "{e} is kept by {v}",
        "{e} is in the care of {v}",
        "{e} was [given|moved] to {v} to keep",
        "{e} is [now|still] kept by {v}",
        "[the person|the one] who keeps {e} is {v}",
        "{e} is kept, and [it is {v} who keeps it|{v} keeps it]",
        "the one who takes care of {e} is {v}",
        "{e} was sent to {v}, who keeps it",
        "{e}: {v} keeps it",
        "{e} is with {v}",
        "the care of {e} is with {v}",
        "to keep {e} we found {v}",
        "{e} [now|still] has {v} to keep it",
        "{e} belongs in the care of {v}"
    ],
    [
        "{e}: kept by {v}",
        "{e} has {v} as keeper",
        "as keeper of {e} we have {v}",
        "{e} was sent to {v} to keep",
        "the person who takes care of {e} is {v}"
    ]
);

const PLACE: Wording = wording!(
    [
        "{e} is stored in {v}",
        "{e} lies in {v}",
        "{e} [can be|was] found in {v}",
        "{e} was [moved|sent] to {v}",
        "{e} has its place in {v}",
        "{e} is [now|still] in {v}",
        "{e}: stored in {v}",
        "{e} is [now|still] stored in {v}",
        "[the place|where] to look for {e} is {v}",
        "{e}: in {v}",
        "where {e} is stored is {v}",
        "the place of {e} is {v}",
        "we found {e} in {v}",
        "to find {e} look in {v}",
        "{e} belongs in {v}"
    ],
    [
        "{e} lies stored in {v}",
        "where {e} lies is {v}",
        "{e} has {v} as location",
        "as location of {e} we have {v}",
        "look for {e} in {v}"
    ]
);

const CODE: Wording = wording!(
    [
        "the code of {e} is {v}",
        "{e} opens with {v}",
        "to open {e} use [code|] {v}",
        "{e} opens with code {v}",
        "{e} can be opened with {v}",
        "you open {e} with {v}",
        "{e}: {v} opens it",
        "{e} is opened by {v}",
        "what opens {e} is {v}",
        "for {e} use [code|] {v}",
        "the code that opens {e} is {v}",
        "you can open {e} by code {v}",
        "{e} is listed with {v} as code"
    ],
    [
        "{e} carries code {v}",
        "as code of {e} we have {v}",
        "{e} opens by code {v}",
        "what you use to open {e} is {v}"
    ]
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
        "{e} [turns out to be|proved] {v}"
    ],
    ["{e} has status {v}", "the scan shows {e}: {v}", "as status of {e} we have {v}"]
);

const RATING: Wording = wording!(
    [
        "{e} is rated {v}",
        "{e} scores {v}",
        "{e} gets [a rating of|the rating|a] {v}",
        "{e} was given a {v}",
        "{e} was rated {v}",
        "{e} was given [a rating of|the rating] {v}",
        "we [rated|rate] {e} {v}",
        "part {n} [rates|rated] {e} {v}",
        "{e} is [now|still] rated {v}",
        "{e} comes out with a {v}",
        "{e}: rated {v}",
        "{e}: {v}"
    ],
    ["{e} has a rating of {v}", "as rating of {e} we have {v}", "{e} scores a {v}"]
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
        "{e} was sent to work in {v}",
        "office of {e}: {v}",
        "{e} [now|still] works in {v}",
        "{e} is [now|still] based in {v}",
        "{e}: [office|based|works] in {v}",
        "you can find {e} in {v}",
        "{e} can be found at work in {v}",
        "the place where {e} works is {v}",
        "where {e} works is {v}",
        "{e} was [moved|sent] to the office in {v}",
        "{e} has a place to work in {v}"
    ],
    [
        "{e} has {v} as base",
        "the base of {e} is {v}",
        "{e} has the office in {v}",
        "where {e} is based is {v}"
    ]
);
