//! A coordinator that is not there yet: a cluster has just started, or the group has just been given to another broker.

use std::time::Duration;

use rdkafka::error::{KafkaError, RDKafkaErrorCode as Code};

/// A coordinator may take this many pauses to be there; some seconds in all.
const PAUSES: usize = 50;
const PAUSE: Duration = Duration::from_millis(200);

/// Makes a call that may be made again, until a coordinator answers it. librdkafka does so for some calls and not for others.
pub(in crate::cli) fn patiently<T>(mut call: impl FnMut() -> Result<T, KafkaError>) -> Result<T, KafkaError> {
    for _ in 0..PAUSES {
        match call() {
            Err(error) if error.rdkafka_error_code().is_some_and(is_not_there_yet) => std::thread::sleep(PAUSE),
            answer => return answer,
        }
    }
    call()
}

fn is_not_there_yet(code: Code) -> bool {
    matches!(code, Code::NotCoordinator | Code::CoordinatorNotAvailable | Code::CoordinatorLoadInProgress)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_waits_for_a_coordinator_and_for_nothing_else() {
        let mut answers = vec![Ok(7), Err(Code::CoordinatorLoadInProgress), Err(Code::NotCoordinator)];
        let mut next = || answers.pop().unwrap().map_err(KafkaError::ConsumerCommit);
        assert_eq!(patiently(&mut next).unwrap(), 7);

        let mut calls = 0;
        let refused = patiently(|| {
            calls += 1;
            Err::<(), _>(KafkaError::ConsumerCommit(Code::GroupAuthorizationFailed))
        });
        assert_eq!(refused.unwrap_err().rdkafka_error_code(), Some(Code::GroupAuthorizationFailed));
        assert_eq!(calls, 1);
    }
}
