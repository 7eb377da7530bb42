//! The index that several machines share: Redis or Valkey. Every step is one script, by the server's clock.

use std::time::Duration;

use async_trait::async_trait;
use redis::aio::{ConnectionManager, ConnectionManagerConfig};
use redis::{FromRedisValue, IntoConnectionInfo, Script};

use super::{Acquired, Entry, Index, Lease, check, millis};
use crate::error::{Error, Result};

/// How long an answer, or a connection, may take.
const PATIENCE: Duration = Duration::from_secs(5);
/// Connections that are tried for one command.
const TRIES: usize = 2;

/// An index on a server. What it acknowledged lasts as long as the server keeps it: with `appendfsync always` like a file.
/// Tokens begin at the server's time, so that they grow even where it has lost all.
#[derive(Clone)]
pub struct RedisIndex {
    connection: ConnectionManager,
    /// In braces, so that a cluster has all of it in one place.
    space: String,
    shown: String,
}

impl std::fmt::Debug for RedisIndex {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "RedisIndex({}, {})", self.shown, self.space)
    }
}

impl RedisIndex {
    /// Connects to `redis://[[USER]:PASSWORD@]HOST[:PORT][/NUMBER]`, or with the feature `redis-tls` to `rediss://…`. All keys begin with `{space}`.
    ///
    /// # Errors
    /// [`Error::Field`] for an address or a space that cannot be, [`Error::Backend`].
    pub async fn connect(address: &str, space: &str) -> Result<Self> {
        crate::names::Tenant::new(space)
            .map_err(|_| Error::field("space", space, "1 to 64 of A-Z, a-z, 0-9, _ and -"))?;
        // An address may hold a password, and an error about it may repeat it.
        let info = address.into_connection_info().map_err(|_| {
            Error::field("address", "redis://…", "redis://[[USER]:PASSWORD@]HOST[:PORT][/NUMBER]")
        })?;
        if let Some(password) = info.redis_settings().password() {
            lb_io::secrets::remember(password);
        }
        let shown = info.addr().to_string();
        let failed = |error: redis::RedisError| Error::backend("connect to", &shown, &error);
        #[cfg(feature = "redis-tls")]
        crate::backend::install_tls();
        let client = redis::Client::open(info).map_err(failed)?;
        let config = ConnectionManagerConfig::new()
            .set_connection_timeout(Some(PATIENCE))
            .set_response_timeout(Some(PATIENCE))
            .set_number_of_retries(TRIES);
        let connection = ConnectionManager::new_with_config(client, config).await.map_err(failed)?;
        Ok(Self { connection, space: format!("{{{space}}}"), shown })
    }

    async fn run<T: FromRedisValue>(&self, step: &str, key: &str, arguments: &[&str]) -> Result<T> {
        let script = Script::new(&[PRELUDE, step].concat());
        let mut invocation = script.key(&self.space);
        invocation.arg(key);
        for argument in arguments {
            invocation.arg(*argument);
        }
        let answer = invocation.invoke_async(&mut self.connection.clone()).await;
        answer.map_err(|error| Error::backend("ask", &self.shown, &error))
    }

    async fn list(&self, step: &str, most: usize) -> Result<Vec<Entry>> {
        let rows: Vec<(String, u64, u64, u64)> = self.run(step, "-", &[&most.to_string()]).await?;
        let entry = |(key, used, expires, bytes)| {
            let expires = (expires != 0).then_some(expires);
            Entry { key, used, expires, bytes }
        };
        Ok(rows.into_iter().map(entry).collect())
    }
}

/// The names of keys, and the time in milliseconds, which a double holds to the last digit.
const PRELUDE: &str = r"
local space, key = KEYS[1], ARGV[1]
local lease, entry = space .. ':lease:' .. key, space .. ':entry:' .. key
local last, uses, expiries = space .. ':token', space .. ':uses', space .. ':expiries'
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local function text(number) return string.format('%.0f', number) end
";

const ACQUIRE: &str = r"
local held = redis.call('HMGET', lease, 'owner', 'until')
if held[1] and held[1] ~= ARGV[2] and tonumber(held[2]) > now then
    return {0, tonumber(held[2]), tonumber(held[2]) - now}
end
local token = math.max(tonumber(redis.call('GET', last) or '0') + 1, now)
redis.call('SET', last, text(token))
local ends = now + tonumber(ARGV[3])
redis.call('DEL', lease)
redis.call('HSET', lease, 'owner', ARGV[2], 'token', text(token), 'until', text(ends))
redis.call('PEXPIREAT', lease, text(ends))
return {1, token, ends}
";

const RENEW: &str = r"
local held = redis.call('HMGET', lease, 'token', 'until')
if held[1] ~= ARGV[2] or tonumber(held[2]) <= now then return 0 end
local ends = now + tonumber(ARGV[3])
redis.call('HSET', lease, 'until', text(ends))
redis.call('PEXPIREAT', lease, text(ends))
return ends
";

const RELEASE: &str = r"
local held = redis.call('HMGET', lease, 'token', 'until')
if held[1] ~= ARGV[2] or tonumber(held[2]) <= now then return 0 end
return redis.call('DEL', lease)
";

const TOUCH: &str = r"
local newest = redis.call('ZRANGE', uses, -1, -1, 'WITHSCORES')
local used = math.max(now, tonumber(newest[2] or '0'))
local ends = 0
if ARGV[3] ~= '' then ends = now + tonumber(ARGV[3]) end
redis.call('HSET', entry, 'used', text(used), 'expires', text(ends), 'bytes', ARGV[2])
redis.call('ZADD', uses, text(used), key)
if ends == 0 then redis.call('ZREM', expiries, key) else redis.call('ZADD', expiries, text(ends), key) end
return 1
";

const FORGET: &str = r"
redis.call('ZREM', uses, key)
redis.call('ZREM', expiries, key)
redis.call('DEL', entry)
return 1
";

/// Numbers travel as text: a reply of a script is cut to an integer, and bytes may be more than a double holds.
const ROWS: &str = r"
local found = {}
for _, name in ipairs(keys) do
    local row = redis.call('HMGET', space .. ':entry:' .. name, 'used', 'expires', 'bytes')
    if row[1] then found[#found + 1] = {name, row[1], row[2], row[3]} end
end
return found
";

const OLDEST: &str = "local keys = redis.call('ZRANGEBYSCORE', uses, '-inf', '+inf', 'LIMIT', 0, ARGV[2])\n";
const EXPIRED: &str =
    "local keys = redis.call('ZRANGEBYSCORE', expiries, '-inf', text(now), 'LIMIT', 0, ARGV[2])\n";

#[async_trait]
impl Index for RedisIndex {
    async fn acquire(&self, key: &str, owner: &str, time: Duration) -> Result<Acquired> {
        check("key", key)?;
        check("owner", owner)?;
        let time = millis("time", time)?.to_string();
        let (taken, number, end): (bool, u64, u64) = self.run(ACQUIRE, key, &[owner, &time]).await?;
        if !taken {
            return Ok(Acquired::Held { until: number, wait: Duration::from_millis(end) });
        }
        let (key, owner) = (key.to_owned(), owner.to_owned());
        Ok(Acquired::Lease(Lease { key, owner, token: number, until: end }))
    }

    async fn renew(&self, lease: &Lease, time: Duration) -> Result<Lease> {
        let (token, time) = (lease.token.to_string(), millis("time", time)?.to_string());
        match self.run(RENEW, &lease.key, &[&token, &time]).await? {
            0 => Err(Error::Lost { key: lease.key.clone(), token: lease.token }),
            until => Ok(Lease { until, ..lease.clone() }),
        }
    }

    async fn release(&self, lease: &Lease) -> Result<()> {
        let token = lease.token;
        let released: bool = self.run(RELEASE, &lease.key, &[&token.to_string()]).await?;
        if released { Ok(()) } else { Err(Error::Lost { key: lease.key.clone(), token }) }
    }

    async fn touch(&self, key: &str, bytes: u64, keep: Option<Duration>) -> Result<()> {
        check("key", key)?;
        let keep = keep.map(|keep| millis("keep", keep)).transpose()?;
        let keep = keep.map(|keep| keep.to_string()).unwrap_or_default();
        self.run::<bool>(TOUCH, key, &[&bytes.to_string(), &keep]).await.map(drop)
    }

    async fn least_recent(&self, most: usize) -> Result<Vec<Entry>> {
        self.list(&[OLDEST, ROWS].concat(), most).await
    }

    async fn expired(&self, most: usize) -> Result<Vec<Entry>> {
        self.list(&[EXPIRED, ROWS].concat(), most).await
    }

    async fn forget(&self, key: &str) -> Result<()> {
        check("key", key)?;
        self.run::<bool>(FORGET, key, &[]).await.map(drop)
    }
}
