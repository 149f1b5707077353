//! Targets out of names: their records are looked up, each name for itself.

use std::collections::BTreeMap;
use std::path::Path;

use super::config::{DnsSdConfig, TargetGroup, Text};
use super::dns::{Record, Resolver};
use super::target::FoundGroup;

/// Who is asked.
const RESOLV_CONF: &str = "/etc/resolv.conf";
const NAME: &str = "__meta_dns_name";
const SRV_TARGET: &str = "__meta_dns_srv_record_target";
const SRV_PORT: &str = "__meta_dns_srv_record_port";
const MX_TARGET: &str = "__meta_dns_mx_record_target";
const NS_TARGET: &str = "__meta_dns_ns_record_target";

/// The names of one entry, and what was last known of each.
#[derive(Debug)]
pub(super) struct Names {
    config: DnsSdConfig,
    known: BTreeMap<String, Vec<FoundGroup>>,
}

impl Names {
    pub(super) fn new(config: &DnsSdConfig) -> Self {
        Self { config: config.clone(), known: BTreeMap::new() }
    }

    /// All targets.
    pub(super) fn groups(&self) -> Vec<FoundGroup> {
        self.known.values().flatten().cloned().collect()
    }

    /// Looks all names up. Of one that could not be, what was known before holds: its name and why are returned.
    pub(super) async fn ask(&mut self) -> Vec<(String, String)> {
        // Read every time: it changes as a machine changes its network.
        match Resolver::of_file(Path::new(RESOLV_CONF)) {
            Ok(resolver) => self.ask_by(&resolver).await,
            Err(error) => vec![(self.config.names.join(", "), error)],
        }
    }

    async fn ask_by(&mut self, resolver: &Resolver) -> Vec<(String, String)> {
        let asking = self.config.names.iter().map(|name| resolver.look_up(name, self.config.kind));
        let answers = futures::future::join_all(asking).await;
        let mut errors = Vec::new();
        for (name, answer) in self.config.names.iter().zip(answers) {
            match answer {
                Ok(records) => {
                    let mut groups: Vec<_> =
                        records.into_iter().map(|record| group(name, record, self.config.port)).collect();
                    // Servers change the order from answer to answer, and that is no change.
                    groups.sort_by(|a, b| a.group.targets.cmp(&b.group.targets));
                    self.known.insert(name.clone(), groups);
                }
                Err(error) => errors.push((name.clone(), error)),
            }
        }
        errors
    }
}

fn group(name: &str, record: Record, port: u16) -> FoundGroup {
    let (mut srv, mut srv_port, mut host_label) = (String::new(), String::new(), None);
    let bare = |host: &str| host.trim_end_matches('.').to_owned();
    let address = match record {
        Record::Address(std::net::IpAddr::V6(address)) => format!("[{address}]:{port}"),
        Record::Address(address) => format!("{address}:{port}"),
        Record::Service(host, port) => {
            (srv, srv_port) = (host, port.to_string());
            format!("{}:{srv_port}", bare(&srv))
        }
        Record::Mail(host) => {
            let address = format!("{}:{port}", bare(&host));
            host_label = Some((MX_TARGET, host));
            address
        }
        Record::NameServer(host) => {
            let address = format!("{}:{port}", bare(&host));
            host_label = Some((NS_TARGET, host));
            address
        }
    };
    let mut labels = BTreeMap::from([(NAME.to_owned(), Text(name.to_owned()))]);
    let all = [(SRV_TARGET, srv), (SRV_PORT, srv_port)].into_iter().chain(host_label);
    labels.extend(all.filter(|(_, value)| !value.is_empty()).map(|(label, value)| (label.to_owned(), Text(value))));
    FoundGroup { place: None, group: TargetGroup { targets: vec![Text(address)], labels } }
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, Ipv6Addr};

    use super::*;

    #[test]
    fn records_are_targets_with_labels() {
        for (record, address, labels) in [
            (Record::Address(Ipv4Addr::LOCALHOST.into()), "127.0.0.1:9100", ""),
            (Record::Address(Ipv6Addr::LOCALHOST.into()), "[::1]:9100", ""),
            (
                Record::Service("a.example.".into(), 80),
                "a.example:80",
                " __meta_dns_srv_record_port=80 __meta_dns_srv_record_target=a.example.",
            ),
            (Record::Mail("mx.example.".into()), "mx.example:9100", " __meta_dns_mx_record_target=mx.example."),
            (Record::NameServer("ns.example.".into()), "ns.example:9100", " __meta_dns_ns_record_target=ns.example."),
        ] {
            let group = group("n", record, 9100).group;
            let others = group.labels.iter().filter(|(label, _)| *label != NAME);
            let others: String = others.map(|(label, value)| format!(" {label}={}", value.0)).collect();
            assert_eq!((group.labels[NAME].0.as_str(), others.as_str()), ("n", labels));
            assert_eq!(group.targets, [Text(address.into())]);
        }
    }
}
