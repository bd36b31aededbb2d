//! A new connection to the database, logged in: by the newest credential, or the one before while both may be good.

use std::net::IpAddr;

use tokio::sync::OwnedSemaphorePermit;

use super::Pool;
use crate::codec::ProxyHeader;
use crate::fault::Fault;
use crate::net::compressed::Role;
use crate::net::credentials::Keyed;
use crate::net::io;
use crate::net::own::Wire;
use crate::net::target;
use crate::net::upstream::{Left, Upstream};
use crate::net::worker::Worker;
use crate::session::UpstreamKey;
use crate::session::upstream::Login;

/// Why there is no connection.
struct Refused {
    fault: Fault,
    /// The database does not take this credential.
    by_credential: bool,
}

impl From<Fault> for Refused {
    fn from(fault: Fault) -> Self {
        Self { fault, by_credential: false }
    }
}

impl Pool {
    pub(super) async fn establish(
        &self,
        worker: &Worker,
        key: UpstreamKey,
        permit: Option<OwnedSemaphorePermit>,
        origin: Option<IpAddr>,
    ) -> Result<Box<Upstream>, Fault> {
        let now_us = worker.now().wall_us;
        let (first, second) = self.target.runtime.credentials.attempts(now_us)?;
        let mut made = self.log_in(worker, key, origin, first).await;
        if let (Err(Refused { by_credential: true, .. }), Some(second)) = (&made, second) {
            made = self.log_in(worker, key, origin, second).await;
        }
        let mut made = made.map_err(|refused| refused.fault)?;
        made.permit = permit;
        Ok(made)
    }

    /// One try.
    async fn log_in(
        &self,
        worker: &Worker,
        key: UpstreamKey,
        origin: Option<IpAddr>,
        Keyed { account, generation }: Keyed,
    ) -> Result<Box<Upstream>, Refused> {
        let runtime = &self.target.runtime;
        let mut wire = self.connect(worker).await?;
        if runtime.proxy_protocol {
            let mut header = worker.buffers.take(1);
            ProxyHeader::write(&mut header, origin);
            let all = 0..header.len();
            let (sent, header) = wire.leg.write(header, all, &worker.buffers).await;
            sent.map_err(|_| Fault::upstream_down("the connection to the database broke"))?;
            worker.buffers.give(header);
        }
        let channel = runtime.tls.channel(&runtime.address);
        let login = Login::new(account, key, channel);
        let mut login = login.compressed(runtime.compression);
        let step = |bytes: &[u8], out: &mut Vec<u8>| login.on_bytes(bytes, out);
        let logged_in = wire.converse(&worker.buffers, Vec::new(), &runtime.tls, step).await;
        if logged_in.is_err() && login.lacks() {
            // The target is another than it was: those who come next are offered what this one has.
            drop(worker.shared.schemas.refresh(self.index));
        }
        if login.was_refused() {
            runtime.credentials.refused(generation, worker.now().wall_us);
        }
        let by_credential = login.was_refused();
        logged_in.map_err(|fault| Refused { fault, by_credential })?;
        runtime.credentials.taken(generation);
        let found = login.established().ok_or_else(Fault::internal)?;
        let (flavour, connection_id) = (found.flavour, found.connection_id);
        let Wire { mut leg, port } = wire;
        if let Some(by) = runtime.compression {
            leg.start_compression(by, Role::Client);
        }
        let idle_since_ns = worker.now().mono_ns;
        Ok(Box::new(Upstream {
            leg,
            port,
            connection_id,
            flavour,
            key,
            origin,
            schema: None,
            mode: None,
            reads_by: None,
            left: Left::Nothing,
            generation,
            made_ns: idle_since_ns,
            idle_since_ns,
            permit: None,
        }))
    }

    async fn connect(&self, worker: &Worker) -> Result<Wire, Fault> {
        let keepalive = worker.shared.limits.keepalive;
        let wire = |(leg, receiver)| Wire { leg, port: io::port(receiver) };
        if let Some(path) = target::socket_path(&self.target.runtime.address) {
            let connected = io::connect_local(path, worker.shared.driver).await;
            return connected.map(wire).map_err(|error| unreachable(error.kind()));
        }
        let addresses = self.target.addresses.load_full();
        let mut down =
            Fault::upstream_down("the database can't be reached: its name can't be resolved");
        for address in addresses.iter() {
            match io::connect(*address, keepalive).await {
                Ok(connected) => return Ok(wire(connected)),
                Err(error) => down = unreachable(error.kind()),
            }
        }
        Err(down)
    }
}

fn unreachable(why: std::io::ErrorKind) -> Fault {
    Fault::upstream_down(&format!("the database can't be reached: {why}"))
}
