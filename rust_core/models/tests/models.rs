//! Runs the models, each to its end: every order of steps.

use jasaweb_rt_models::{counts, wakeups};

#[test]
fn counts_of_a_user_are_right_while_connections_come_and_go() {
    counts::of_one_user();
}

#[test]
fn counts_of_roles_never_go_below_zero() {
    counts::of_roles();
}

#[test]
fn no_wake_up_is_lost_between_offer_and_drain() {
    wakeups::nothing_is_lost(usize::MAX);
}

#[test]
fn none_is_lost_either_where_a_drain_leaves_something() {
    wakeups::nothing_is_lost(1);
}

#[test]
fn a_listener_gets_what_is_told_after_it_came() {
    wakeups::from_the_first_listener_on();
}

#[test]
fn progress_is_taken_once() {
    wakeups::records_are_taken_once();
}
