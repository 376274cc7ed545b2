//! Acknowledgement batches of share consumers → what the core settles.

use core_rpc::{LeaseError, SettleRange, Settlement};

use crate::errors::ErrorCode;

/// Acknowledges as the wire numbers them; 0 says that there is no such record.
fn settlement(acknowledge_type: i8) -> Option<Settlement> {
    match acknowledge_type {
        0 | 1 => Some(Settlement::Accept),
        2 => Some(Settlement::Release),
        3 => Some(Settlement::Reject),
        _ => None,
    }
}

/// Batches (first, last, types) as ranges: one type is for the whole batch, else there is one for each offset. Batches
/// must rise.
pub fn settle_ranges<'a>(batches: impl Iterator<Item = (i64, i64, &'a [i8])>) -> Result<Vec<SettleRange>, ErrorCode> {
    let mut ranges: Vec<SettleRange> = Vec::new();
    let mut after = -1;
    for (first, last, types) in batches {
        if first <= after || last < first || types.is_empty() {
            return Err(ErrorCode::InvalidRequest);
        }
        after = last;
        let count = (last - first).checked_add(1).ok_or(ErrorCode::InvalidRequest)?;
        if types.len() > 1 && types.len() as i64 != count {
            return Err(ErrorCode::InvalidRequest);
        }
        let (first, last) = (first as u64, last as u64);
        if let [one] = types {
            let settlement = settlement(*one).ok_or(ErrorCode::InvalidRequest)?;
            ranges.push(SettleRange::new(first, last, settlement));
            continue;
        }
        for (offset, one) in (first..).zip(types) {
            let settlement = settlement(*one).ok_or(ErrorCode::InvalidRequest)?;
            match ranges.last_mut() {
                Some(range) if range.first >= first && range.settlement == settlement => range.last = offset,
                _ => ranges.push(SettleRange::new(offset, offset, settlement)),
            }
        }
    }
    Ok(ranges)
}

/// What a partition's acknowledgements are answered. What was settled before, or trimmed, is no error.
pub fn acknowledged(answers: &[Result<(), LeaseError>]) -> ErrorCode {
    let error = answers.iter().filter_map(|answer| answer.as_ref().err()).find(|error| **error != LeaseError::Passed);
    error.map_or(ErrorCode::None, ErrorCode::from)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn types_become_ranges() {
        let ranges = settle_ranges([(0, 9, &[1i8][..]), (12, 15, &[1, 1, 2, 0])].into_iter()).unwrap();
        let of = |range: &SettleRange| (range.first, range.last, range.settlement);
        let expected = [
            (0, 9, Settlement::Accept),
            (12, 13, Settlement::Accept),
            (14, 14, Settlement::Release),
            (15, 15, Settlement::Accept),
        ];
        assert_eq!(ranges.iter().map(of).collect::<Vec<_>>(), expected);
        for bad in [(5, 4, &[1i8][..]), (0, 2, &[1, 1]), (0, 0, &[9]), (0, 0, &[]), (-1, 0, &[1])] {
            assert_eq!(settle_ranges([bad].into_iter()), Err(ErrorCode::InvalidRequest), "{bad:?}");
        }
        assert_eq!(settle_ranges([(0, 3, &[1i8][..]), (3, 4, &[1])].into_iter()), Err(ErrorCode::InvalidRequest));
    }
}
