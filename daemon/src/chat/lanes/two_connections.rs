//! Two connections of one agent that overtake each other.

use super::tests::{offered, offers, presence};
use super::*;

#[test]
fn an_older_connection_that_says_so_last_is_not_taken_for_the_newer() {
    let (mut lanes, turn, now) = offered();
    assert_eq!(offers(&lanes.joined(presence(3, Some("a")), now)), [(turn.clone(), 1)]);
    assert_eq!(lanes.joined(presence(2, Some("a")), now), []);
    lanes.left(2);
    assert!(lanes.done(&turn, 3, "the answer".to_owned(), now).is_some(), "the newer one is still there");
}
