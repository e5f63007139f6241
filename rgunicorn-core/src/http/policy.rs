//! Limits, relaxing settings, and whom we trust: what a request head is checked against.

use std::net::IpAddr;
use std::str::FromStr;

use ipnet::IpNet;

/// How large the parts of a request head may be. Zero means gunicorn's "no limit of its own" for that part.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// The request line without its line end, in bytes; more is 414 (gunicorn: `limit_request_line`).
    pub line: usize,
    /// How many header fields; more is 431 (gunicorn: `limit_request_fields`).
    pub fields: usize,
    /// One field with its line end, in bytes; more is 431 (gunicorn: `limit_request_field_size`).
    pub field_size: usize,
    /// The head as a whole, in bytes; more is 431 (`limit_request_head`). Zero is no limit.
    pub head: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Limits { line: 4094, fields: 100, field_size: 8190, head: 64 * 1024 }
    }
}

impl Limits {
    /// The longest request line that can be asked for; a larger setting means this.
    const MAX_LINE: usize = 8190;
    /// The longest request line where the setting says that there is no limit: a buffer must end somewhere.
    const UNLIMITED_LINE: usize = 1024 * 1024;
    /// The most fields that can be asked for; a larger setting, or none, means this.
    const MAX_FIELDS: usize = 32768;
    /// The field size where the setting says that there is no limit.
    const UNLIMITED_FIELD_SIZE: usize = 8190;

    /// The limits that the settings stand for, none of them zero, as gunicorn reads them.
    pub(super) fn effective(&self) -> Limits {
        let parts = self.effective_parts();
        Limits {
            head: match self.head {
                0 => usize::MAX,
                // Whoever has allowed a large part means to have it.
                head => head.max(parts.line.saturating_add(parts.field_size)),
            },
            ..parts
        }
    }

    fn effective_parts(&self) -> Limits {
        Limits {
            head: self.head,
            line: match self.line {
                0 => Self::UNLIMITED_LINE,
                line => line.min(Self::MAX_LINE),
            },
            fields: match self.fields {
                0 => Self::MAX_FIELDS,
                fields => fields.min(Self::MAX_FIELDS),
            },
            field_size: match self.field_size {
                0 => Self::UNLIMITED_FIELD_SIZE,
                size => size,
            },
        }
    }
}

/// What happens to a header whose name has an underscore, and so could pass for another one in a WSGI environ
/// (gunicorn: `header_map`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum HeaderMap {
    /// Leave it out, as if it had not been sent.
    #[default]
    Drop,
    /// Refuse the request.
    Refuse,
    /// Pass it on all the same.
    Dangerous,
}

/// Peers that are trusted: addresses, networks, or everybody (`*`).
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct AllowList {
    everybody: bool,
    networks: Vec<IpNet>,
}

impl AllowList {
    /// Whether everybody is on the list, by whatever name they go.
    pub fn allows_everybody(&self) -> bool {
        self.everybody
    }

    /// Whether `peer` is on the list. A peer without an IP address (a Unix socket) is always trusted, as in gunicorn.
    pub fn allows(&self, peer: Option<IpAddr>) -> bool {
        match peer {
            None => true,
            Some(_) if self.everybody => true,
            Some(ip) => self.networks.iter().any(|network| network.contains(&ip)),
        }
    }
}

impl FromStr for AllowList {
    type Err = String;

    /// Reads a comma-separated list such as `127.0.0.1,::1,10.0.0.0/8` or `*`.
    fn from_str(text: &str) -> Result<Self, String> {
        let mut list = AllowList::default();
        for entry in text.split(',').map(str::trim).filter(|entry| !entry.is_empty()) {
            if entry == "*" {
                list.everybody = true;
            } else if let Ok(ip) = entry.parse::<IpAddr>() {
                list.networks.push(IpNet::from(ip));
            } else {
                let network: IpNet = entry.parse().map_err(|_| {
                    format!("{entry:?} is neither an IP address, a network such as 10.0.0.0/8, nor *")
                })?;
                if network.addr() != network.network() {
                    return Err(format!("{entry:?} has host bits set; the network is {}", network.trunc()));
                }
                list.networks.push(network);
            }
        }
        Ok(list)
    }
}

impl std::fmt::Display for AllowList {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let everybody = self.everybody.then(|| "*".to_string());
        let networks = self.networks.iter().map(|network| {
            if network.prefix_len() == network.max_prefix_len() {
                network.addr().to_string()
            } else {
                network.to_string()
            }
        });
        f.write_str(&everybody.into_iter().chain(networks).collect::<Vec<_>>().join(","))
    }
}

/// Everything that decides whether a request head is accepted, gathered from the settings of the same names.
#[derive(Debug, Clone)]
pub struct Policy {
    /// How large its parts may be.
    pub limits: Limits,
    /// Accept (and join) folded header lines.
    pub permit_obsolete_folding: bool,
    /// Accept white space between a header's name and its colon.
    pub strip_header_spaces: bool,
    /// Accept methods with lower-case letters or `#`, or of fewer than 3 or more than 20 characters.
    pub permit_unconventional_http_method: bool,
    /// Accept versions other than HTTP/1.0 and HTTP/1.1.
    pub permit_unconventional_http_version: bool,
    /// Turn the method to upper case.
    pub casefold_http_method: bool,
    /// What happens to header names with an underscore.
    pub header_map: HeaderMap,
    /// Names (upper case) with an underscore that a trusted peer may send all the same; `*` for all.
    pub forwarder_headers: Vec<String>,
    /// Peers whose forwarding and scheme headers are believed.
    pub forwarded_allow: AllowList,
    /// Headers (upper case) and the value that says the client's connection was secure.
    pub secure_scheme_headers: Vec<(String, String)>,
}

impl Default for Policy {
    fn default() -> Self {
        Policy {
            limits: Limits::default(),
            permit_obsolete_folding: false,
            strip_header_spaces: false,
            permit_unconventional_http_method: false,
            permit_unconventional_http_version: false,
            casefold_http_method: false,
            header_map: HeaderMap::Drop,
            forwarder_headers: vec!["SCRIPT_NAME".into(), "PATH_INFO".into()],
            forwarded_allow: "127.0.0.1,::1".parse().unwrap_or_default(),
            secure_scheme_headers: vec![
                ("X-FORWARDED-PROTOCOL".into(), "ssl".into()),
                ("X-FORWARDED-PROTO".into(), "https".into()),
                ("X-FORWARDED-SSL".into(), "on".into()),
            ],
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_are_read_as_gunicorn_reads_them() {
        let effective = |line, fields, field_size| {
            let limits = Limits { line, fields, field_size, ..Limits::default() }.effective();
            (limits.line, limits.fields, limits.field_size)
        };
        assert_eq!(effective(4094, 100, 8190), (4094, 100, 8190));
        assert_eq!(effective(0, 0, 0), (1024 * 1024, 32768, 8190));
        assert_eq!(effective(8191, 32769, 100_000), (8190, 32768, 100_000));
    }

    #[test]
    fn the_head_as_a_whole_has_room_for_its_largest_parts() {
        let head = |head, line, field_size| Limits { line, field_size, head, fields: 1 }.effective().head;
        assert_eq!(head(65536, 4094, 8190), 65536);
        assert_eq!(head(1, 100, 200), 300);
        assert_eq!(head(65536, 4094, 100_000), 104_094);
        assert_eq!(head(65536, 0, 8190), 1024 * 1024 + 8190);
        assert_eq!(head(65536, 1, usize::MAX), usize::MAX);
        assert_eq!(head(0, 1, 1), usize::MAX);
    }

    #[test]
    fn allow_lists_hold_addresses_networks_or_everybody() {
        let list: AllowList = "127.0.0.1, ::1 ,10.0.0.0/8".parse().unwrap();
        let allows = |list: &AllowList, ip: &str| list.allows(Some(ip.parse().unwrap()));
        assert!(allows(&list, "127.0.0.1") && allows(&list, "::1") && allows(&list, "10.255.0.1"));
        assert!(
            !allows(&list, "127.0.0.2") && !allows(&list, "11.0.0.1") && !allows(&list, "::ffff:127.0.0.1")
        );
        assert!(list.allows(None), "a Unix socket has no address and is trusted");
        assert_eq!(list.to_string(), "127.0.0.1,::1,10.0.0.0/8");
        assert!(allows(&"*".parse().unwrap(), "192.0.2.1"));
        assert!(!allows(&"".parse().unwrap(), "127.0.0.1"));
        assert!("10.0.0.1/8".parse::<AllowList>().unwrap_err().contains("10.0.0.0/8"));
        assert!("localhost".parse::<AllowList>().is_err());
    }
}
