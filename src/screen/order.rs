//! An order of rows that does not jump.

use std::cmp::Ordering;
use std::collections::HashMap;
use std::hash::Hash;

use foldhash::fast::RandomState;

/// A row passes another one if it is bigger by this factor …
const CLEARLY: f64 = 1.1;
/// … in this many refreshes in a row.
const PATIENCE: u8 = 2;

/// The order of the last refresh, the biggest first.
#[derive(Clone, Debug)]
pub(super) struct Order<K> {
    /// The place of each, and in how many refreshes it was clearly bigger than one before it.
    places: HashMap<K, (usize, u8), RandomState>,
}

impl<K> Default for Order<K> {
    fn default() -> Order<K> {
        Order { places: HashMap::default() }
    }
}

/// The biggest first.
fn descending(a: f64, b: f64) -> Ordering {
    b.total_cmp(&a)
}

impl<K: Clone + Eq + Hash> Order<K> {
    /// Forgets the order: the next one is exact.
    pub(super) fn reset(&mut self) {
        self.places.clear();
    }

    /// Puts items in order. What was there before keeps its place until it is clearly bigger for a while.
    pub(super) fn arrange<T>(
        &mut self,
        items: &mut Vec<T>,
        key: impl Fn(&T) -> &K,
        value: impl Fn(&T) -> f64,
    ) {
        let place = |item: &T| self.places.get(key(item)).copied();
        let (mut known, mut new): (Vec<_>, Vec<_>) = items
            .drain(..)
            .map(|item| (place(&item), value(&item), item))
            .partition(|(place, ..)| place.is_some());
        known.sort_by_key(|(place, ..)| place.map(|(place, _)| place));
        new.sort_by(|(_, a, _), (_, b, _)| descending(*a, *b));
        let mut list: Vec<_> = Vec::with_capacity(known.len() + new.len());
        let mut new = new.into_iter().peekable();
        for item in known {
            while let Some(next) = new.next_if(|next| next.1 > item.1) {
                list.push(next);
            }
            list.push(item);
        }
        list.extend(new);
        let mut least = f64::INFINITY;
        for at in 0..list.len() {
            let (place, value, _) = &mut list[at];
            let value = *value;
            let streak = place.get_or_insert_default();
            let is_bigger = value > 0.0 && value >= CLEARLY * least;
            streak.1 = if is_bigger { streak.1.saturating_add(1) } else { 0 };
            if streak.1 >= PATIENCE {
                streak.1 = 0;
                let before = list[..at].iter().position(|(_, of, _)| value >= CLEARLY * of);
                list[before.unwrap_or(at)..=at].rotate_right(1);
            }
            least = least.min(value);
        }
        self.places.clear();
        for (at, (place, _, item)) in list.into_iter().enumerate() {
            let streak = place.map_or(0, |(_, streak)| streak);
            self.places.insert(key(&item).clone(), (at, streak));
            items.push(item);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn arrange(order: &mut Order<char>, items: &[(char, f64)]) -> String {
        let mut items = items.to_vec();
        order.arrange(&mut items, |item| &item.0, |item| item.1);
        items.iter().map(|item| item.0).collect()
    }

    #[test]
    fn a_row_passes_another_one_when_it_is_clearly_bigger_twice() {
        let mut order = Order::default();
        assert_eq!(arrange(&mut order, &[('a', 90.0), ('b', 100.0)]), "ba");
        // Bigger, but not clearly.
        for _ in 0..5 {
            assert_eq!(arrange(&mut order, &[('a', 109.0), ('b', 100.0)]), "ba");
        }
        assert_eq!(arrange(&mut order, &[('a', 111.0), ('b', 100.0)]), "ba");
        // Not twice in a row.
        assert_eq!(arrange(&mut order, &[('a', 100.0), ('b', 100.0)]), "ba");
        assert_eq!(arrange(&mut order, &[('a', 111.0), ('b', 100.0)]), "ba");
        assert_eq!(arrange(&mut order, &[('a', 111.0), ('b', 100.0)]), "ab");
    }

    #[test]
    fn a_new_row_gets_its_place_at_once_and_an_order_can_be_forgotten() {
        let mut order = Order::default();
        arrange(&mut order, &[('a', 3.0), ('b', 1.0)]);
        assert_eq!(arrange(&mut order, &[('b', 1.05), ('c', 2.0), ('a', 1.0), ('d', 0.0)]), "cabd");
        order.reset();
        assert_eq!(arrange(&mut order, &[('a', 1.0), ('b', 1.05), ('c', 2.0)]), "cba");
    }

    /// Each is hardly bigger than the next, the last much bigger than the first.
    #[test]
    fn small_steps_do_not_hide_a_big_one() {
        let mut order = Order::default();
        arrange(&mut order, &[('a', 4.0), ('b', 3.0), ('c', 2.0), ('d', 1.0)]);
        let now = [('a', 100.0), ('b', 108.0), ('c', 116.0), ('d', 125.0)];
        let last = (0..4).map(|_| arrange(&mut order, &now)).last().unwrap();
        assert!(last.find('d') < last.find('a') && last.find('c') < last.find('a'), "{last}");
    }

    proptest! {
        #[test]
        fn no_row_stays_below_a_clearly_smaller_one(values in proptest::collection::vec(0.0..1e9_f64, 1..40)) {
            let mut order = Order::default();
            let before: Vec<(usize, f64)> = (0..values.len()).map(|at| (at, at as f64)).collect();
            order.arrange(&mut before.clone(), |item| &item.0, |item| item.1);
            let mut items: Vec<(usize, f64)> = values.into_iter().enumerate().collect();
            for _ in 0..2 {
                order.arrange(&mut items, |item| &item.0, |item| item.1);
            }
            for (at, (_, value)) in items.iter().enumerate() {
                prop_assert!(items[..at].iter().all(|(_, before)| *value < CLEARLY * before || *value == 0.0));
            }
        }
    }
}
