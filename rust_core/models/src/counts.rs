//! The hub's index while connections come and go.

use std::sync::Arc;

use loom::thread;

use crate::{explore, index::Index, token::Role};

const USER: &str = "user-1";

/// Two connections of one user come and go while somebody looks the user up.
///
/// # Panics
///
/// Where a count is ever wrong, which is what it looks for; the same goes for the others.
pub fn of_one_user() {
    explore(|| {
        let index = Arc::new(Index::new(None));
        let threads: Vec<_> = [256, 512]
            .into_iter()
            .map(|number| {
                let index = Arc::clone(&index);
                thread::spawn(move || {
                    let place = index.enter(&USER.into(), number);
                    let found = index.find(USER).map(|(_, count)| count);
                    assert!(matches!(found, Some(1 | 2)), "it is there itself, and found {found:?}");
                    assert!(index.is_open(number));
                    drop(place);
                    assert!(!index.is_open(number));
                })
            })
            .collect();
        if let Some((_, count)) = index.find(USER) {
            assert!((1..=2).contains(&count), "found with {count} connections");
        }
        assert!(index.total() <= 2);
        for thread in threads {
            assert!(thread.join().is_ok());
        }
        assert!(index.find(USER).is_none());
        assert_eq!((index.total(), index.users()), (0, 0));
    });
}

/// Two connections change roles and leave while somebody asks how many have one.
///
/// # Panics
///
/// As [`of_one_user`] does.
pub fn of_roles() {
    explore(|| {
        let index = Arc::new(Index::new(None));
        let threads: Vec<_> = [(256, "user-1"), (512, "user-2")]
            .into_iter()
            .map(|(number, user)| {
                let index = Arc::clone(&index);
                thread::spawn(move || {
                    let place = index.enter(&user.into(), number);
                    place.set_role(Some(Role::Client));
                    place.set_role(Some(Role::Admin));
                    assert!((1..=2).contains(&index.with_role(Role::Admin)));
                })
            })
            .collect();
        assert!(index.with_role(Role::Client) <= 2 && index.with_role(Role::Admin) <= 2);
        for thread in threads {
            assert!(thread.join().is_ok());
        }
        assert_eq!((index.with_role(Role::Client), index.with_role(Role::Admin), index.total()), (0, 0, 0));
    });
}
