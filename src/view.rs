//! What a refresh shows, before anyone has decided how it looks.

use crate::traffic::Row;

/// The rows in the order of the screen, the busiest last; those without any traffic are left out.
///
/// Two rows of the same name stay two rows: the ledger has put together what belongs together.
pub fn arrange(mut rows: Vec<Row>) -> Vec<Row> {
    rows.retain(|row| !row.traffic.is_zero());
    rows.sort_unstable();
    rows
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::traffic::Traffic;
    use proptest::prelude::*;

    fn row(received: u64, sent: u64, name: &str) -> Row {
        Row::new(Traffic::new(received, sent), name)
    }

    #[test]
    fn ascending_by_received_then_sent_then_name() {
        let rows = vec![
            row(2, 0, "a"),
            row(1, 5, "b"),
            row(0, 0, "silent"),
            row(1, 5, "a"),
            row(0, 1, "sends only"),
            row(1, 4, "z"),
            row(10, 0, "numbers, not texts"),
        ];
        assert_eq!(
            arrange(rows),
            [
                row(0, 1, "sends only"),
                row(1, 4, "z"),
                row(1, 5, "a"),
                row(1, 5, "b"),
                row(2, 0, "a"),
                row(10, 0, "numbers, not texts"),
            ]
        );
    }

    #[test]
    fn equal_rows_all_stay() {
        assert_eq!(arrange(vec![row(1, 1, "a"), row(1, 1, "a")]).len(), 2);
    }

    #[test]
    fn names_are_ordered_as_bytes() {
        let rows =
            vec![Row::new(Traffic::new(1, 1), *b"\xff"), row(1, 1, "\u{e9}"), row(1, 1, "Z")];
        let names: Vec<_> = arrange(rows).into_iter().map(|row| row.name.to_vec()).collect();
        assert_eq!(names, [b"Z".to_vec(), "\u{e9}".into(), b"\xff".to_vec()]);
    }

    proptest! {
        #[test]
        fn sorted_and_nothing_lost(
            rows in proptest::collection::vec((0_u64..4, 0_u64..4, any::<Vec<u8>>()), 0..40)
        ) {
            let rows: Vec<Row> = rows
                .into_iter()
                .map(|(received, sent, name)| Row::new(Traffic::new(received, sent), name))
                .collect();
            let sum: Traffic = rows.iter().map(|row| row.traffic).sum();
            let arranged = arrange(rows);
            prop_assert!(arranged.is_sorted());
            prop_assert!(arranged.iter().all(|row| !row.traffic.is_zero()));
            prop_assert_eq!(arranged.iter().map(|row| row.traffic).sum::<Traffic>(), sum);
        }
    }
}
