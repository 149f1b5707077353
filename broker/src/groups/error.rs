//! What a group refuses, in the words of the Kafka protocol.

/// Why a group refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum GroupError {
    /// The group's journal takes no writes, or the group is being deleted: ask again.
    #[error("the group coordinator cannot answer now; try again")]
    CoordinatorNotAvailable,
    /// A group name that is empty or too long.
    #[error("a group name has 1 to 32767 bytes")]
    InvalidGroupId,
    /// The group has no such member: join anew, without a member id.
    #[error("the group has no such member; join it anew")]
    UnknownMemberId,
    /// The member speaks of a generation that is not the group's.
    #[error("the generation is not the group's; join it again")]
    IllegalGeneration,
    /// The members are being asked to join again.
    #[error("the group is rebalancing; join it again")]
    RebalanceInProgress,
    /// Another process runs under this group instance id.
    #[error("another member has taken over this group instance id; this one must stop")]
    FencedInstanceId,
    /// The member shares no protocol with the others.
    #[error("the group's members use another protocol type, or none of this member's protocols")]
    InconsistentGroupProtocol,
    /// A session timeout outside the broker's bounds.
    #[error("the session timeout is outside the bounds that the broker is configured with")]
    InvalidSessionTimeout,
    /// The group is full, or there are too many groups.
    #[error("the group has as many members as it may have")]
    GroupMaxSizeReached,
    /// The member is to join again with the id it got.
    #[error("join again with the member id of this answer")]
    MemberIdRequired,
    /// The group still has members.
    #[error("the group has members; stop them first")]
    NonEmptyGroup,
    /// There is no such group.
    #[error("there is no such group")]
    GroupIdNotFound,
    /// The group is of Highwater itself: it may be looked at, not changed.
    #[error("the group is Highwater's own")]
    GroupAuthorizationFailed,
    /// The group's record, or the commit, is larger than the journal takes.
    #[error("too large for the journal of the group coordinator")]
    TooLarge,
}
