//! The number that says what an event is (`Log_event_type` in both servers' sources).
use core::fmt;

/// What an event is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EventType(pub u8);

macro_rules! event_types {
    ($($code:literal $name:ident)*) => {
        #[expect(missing_docs, reason = "they are named as in the servers' sources")]
        impl EventType {
            $(pub const $name: Self = Self($code);)*

            /// Its name in the servers' sources, if we know it.
            #[must_use]
            pub const fn name(self) -> Option<&'static str> {
                match self.0 {
                    $($code => Some(stringify!($name)),)*
                    _ => None,
                }
            }
        }
    };
}

event_types! {
    1 START_EVENT_V3
    2 QUERY_EVENT
    3 STOP_EVENT
    4 ROTATE_EVENT
    5 INTVAR_EVENT
    6 LOAD_EVENT
    7 SLAVE_EVENT
    8 CREATE_FILE_EVENT
    9 APPEND_BLOCK_EVENT
    10 EXEC_LOAD_EVENT
    11 DELETE_FILE_EVENT
    12 NEW_LOAD_EVENT
    13 RAND_EVENT
    14 USER_VAR_EVENT
    15 FORMAT_DESCRIPTION_EVENT
    16 XID_EVENT
    17 BEGIN_LOAD_QUERY_EVENT
    18 EXECUTE_LOAD_QUERY_EVENT
    19 TABLE_MAP_EVENT
    20 PRE_GA_WRITE_ROWS_EVENT
    21 PRE_GA_UPDATE_ROWS_EVENT
    22 PRE_GA_DELETE_ROWS_EVENT
    23 WRITE_ROWS_EVENT_V1
    24 UPDATE_ROWS_EVENT_V1
    25 DELETE_ROWS_EVENT_V1
    26 INCIDENT_EVENT
    27 HEARTBEAT_LOG_EVENT
    28 IGNORABLE_LOG_EVENT
    29 ROWS_QUERY_LOG_EVENT
    30 WRITE_ROWS_EVENT
    31 UPDATE_ROWS_EVENT
    32 DELETE_ROWS_EVENT
    33 GTID_LOG_EVENT
    34 ANONYMOUS_GTID_LOG_EVENT
    35 PREVIOUS_GTIDS_LOG_EVENT
    36 TRANSACTION_CONTEXT_EVENT
    37 VIEW_CHANGE_EVENT
    38 XA_PREPARE_LOG_EVENT
    39 PARTIAL_UPDATE_ROWS_EVENT
    40 TRANSACTION_PAYLOAD_EVENT
    41 HEARTBEAT_LOG_EVENT_V2
    42 GTID_TAGGED_LOG_EVENT
    160 ANNOTATE_ROWS_EVENT
    161 BINLOG_CHECKPOINT_EVENT
    162 GTID_EVENT
    163 GTID_LIST_EVENT
    164 START_ENCRYPTION_EVENT
    165 QUERY_COMPRESSED_EVENT
    166 WRITE_ROWS_COMPRESSED_EVENT_V1
    167 UPDATE_ROWS_COMPRESSED_EVENT_V1
    168 DELETE_ROWS_COMPRESSED_EVENT_V1
    169 WRITE_ROWS_COMPRESSED_EVENT
    170 UPDATE_ROWS_COMPRESSED_EVENT
    171 DELETE_ROWS_COMPRESSED_EVENT
}

impl fmt::Display for EventType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.0, self.name().unwrap_or("unknown"))
    }
}
