//! What a member of a consumer group was assigned, as the protocol of consumers writes it: version, then per topic its name and
//! partitions.
//!
//! The bytes are a group leader's, whoever that is: nothing in them is taken at its word.

/// Topics and partitions of an assignment; `None` where the bytes are not one.
pub(crate) fn partitions_of_assignment(bytes: &[u8]) -> Option<Vec<(String, i32)>> {
    let mut rest = bytes;
    let _version = take(&mut rest, 2)?;
    let topics = count(&mut rest)?;
    let mut assigned = Vec::new();
    for _ in 0..topics {
        let length = usize::from(u16::from_be_bytes(take(&mut rest, 2)?.try_into().ok()?));
        let topic = std::str::from_utf8(take(&mut rest, length)?).ok()?;
        for _ in 0..count(&mut rest)? {
            let partition = i32::from_be_bytes(take(&mut rest, 4)?.try_into().ok()?);
            assigned.push((topic.to_owned(), partition));
        }
    }
    Some(assigned)
}

fn take<'b>(rest: &mut &'b [u8], length: usize) -> Option<&'b [u8]> {
    let (taken, after) = rest.split_at_checked(length)?;
    *rest = after;
    Some(taken)
}

/// A count of things; each takes at least a byte, so more than there are bytes left is a lie.
fn count(rest: &mut &[u8]) -> Option<usize> {
    let count = i32::from_be_bytes(take(rest, 4)?.try_into().ok()?);
    usize::try_from(count).ok().filter(|count| *count <= rest.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes() -> Vec<u8> {
        let mut bytes = vec![0, 1, 0, 0, 0, 2];
        for (topic, partitions) in [("logs", [0, 3].as_slice()), ("é", &[1])] {
            bytes.extend((topic.len() as u16).to_be_bytes());
            bytes.extend(topic.as_bytes());
            bytes.extend((partitions.len() as i32).to_be_bytes());
            partitions.iter().for_each(|partition: &i32| bytes.extend(partition.to_be_bytes()));
        }
        bytes.extend([255; 4]);
        bytes
    }

    #[test]
    fn topics_and_partitions_are_read() {
        let expected = [("logs", 0), ("logs", 3), ("é", 1)].map(|(topic, partition)| (topic.to_owned(), partition));
        assert_eq!(partitions_of_assignment(&bytes()), Some(expected.into()));
        assert_eq!(partitions_of_assignment(&[0, 0, 0, 0, 0, 0]), Some(Vec::new()));
    }

    #[test]
    fn what_is_cut_short_or_lies_is_none() {
        let whole = bytes();
        for length in 0..whole.len() - 4 {
            assert_eq!(partitions_of_assignment(&whole[..length]), None, "{length}");
        }
        assert_eq!(partitions_of_assignment(&[0, 0, 127, 255, 255, 255]), None);
        assert_eq!(partitions_of_assignment(&[0, 0, 255, 255, 255, 255]), None);
    }
}
