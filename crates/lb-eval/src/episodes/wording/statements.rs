//! How a fact is stated, relation by relation.

use super::{Wording, wording};
use crate::episodes::world::Relation;

/// How a fact is stated.
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

const KEEPER: Wording = wording!(
    [
        "{e} is kept by {v}",
        "{v} keeps {e}",
        "the keeper of {e} is {v}",
        "{v} is the keeper of {e}",
        "{e} is in the care of {v}",
        "{v} takes care of {e}",
        "for {e} the keeper is {v}",
        "keeper of {e}: {v}",
        "{e} was given to {v} to keep",
        "{v} is listed as keeper of {e}",
        "{e} has a keeper, {v}",
        "it is {v} who keeps {e}"
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
        "{e} can be found in {v}",
        "the location of {e} is {v}",
        "{e} was moved to {v}",
        "in {v} we found {e}",
        "location of {e}: {v}",
        "{v} is the location of {e}",
        "{e} has its place in {v}",
        "{e} was found in {v}",
        "it is {v} that holds {e}"
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
        "{e} has code {v}",
        "{e} opens with {v}",
        "code {v} belongs to {e}",
        "{e} carries the code {v}",
        "code for {e}: {v}",
        "{v} is the code of {e}",
        "to open {e} use code {v}",
        "{e} has the code {v}",
        "with {v} you can open {e}",
        "code of {e}: {v}",
        "{e} is listed with code {v}"
    ],
    ["{e} carries code {v}", "{v} opens {e}", "as code of {e} we have {v}", "use {v} to open {e}"]
);

const STATUS: Wording = wording!(
    [
        "{e} is {v}",
        "status of {e}: {v}",
        "{e} was found {v}",
        "the scan shows {e} as {v}",
        "{e} is listed as {v}",
        "scan of {e}: {v}",
        "the status of {e} is {v}",
        "{e}: {v}",
        "{v} is the status of {e}"
    ],
    ["{e} has status {v}", "the scan shows {e}: {v}", "as status of {e} we have {v}"]
);

const RATING: Wording = wording!(
    [
        "{e} is rated {v}",
        "the rating of {e} is {v}",
        "{e} has rating {v}",
        "{e} scores {v}",
        "rating of {e}: {v}",
        "{e} gets a rating of {v}",
        "{e} was given a {v}",
        "rated {v}: {e}",
        "{e} is listed with rating {v}"
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
        "link of {e}: {v}",
        "the link of {e} points to {v}",
        "{e} carries a link to {v}"
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
        "{v} is the base of {e}",
        "it is {v} where {e} works"
    ],
    ["{e} has {v} as base", "the base of {e} is {v}", "{v} is where {e} is based"]
);
