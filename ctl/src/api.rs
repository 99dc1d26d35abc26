//! The daemon's API as typed calls.

use std::time::Duration;

use agentbot_wire::{
    AgentList, Code, ConversationList, DaemonStatus, Discovery, Health, InstanceView, MemoryView, MemoryWrite,
    MessageList, ModelList, ModelTest, ModelTested, Operation, OperationId, OperationList, ProvisionReply,
    ProvisionRequest, TokenReply, UndeleteRequest,
};
use bytes::Bytes;
use hyper::Method;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::args::Target;
use crate::client::{Call, Client, Reply, bad_shape};
use crate::exit::{Exit, Failure};

/// How long a question without side effects may take, unless `--timeout` is shorter.
const QUESTION: Duration = Duration::from_secs(30);

/// The daemon.
#[derive(Clone, Debug)]
pub struct Api {
    client: Client,
    timeout: Duration,
}

impl Api {
    /// The daemon behind a client; no answer is waited for longer than `timeout`.
    #[must_use]
    pub fn new(client: Client, timeout: Duration) -> Self {
        Self { client, timeout }
    }

    /// Where the daemon listens.
    #[must_use]
    pub fn socket(&self) -> &std::path::Path {
        self.client.socket()
    }

    /// The time that a command may wait.
    #[must_use]
    pub fn timeout(&self) -> Duration {
        self.timeout
    }

    async fn get<T: DeserializeOwned>(&self, path: String) -> Result<T, Failure> {
        read(&self.client.send(&question(path, self.timeout.min(QUESTION))).await?)
    }

    async fn change<T: DeserializeOwned>(&self, method: Method, path: String, body: Bytes) -> Result<T, Failure> {
        // An id is a fresh unguessable text: what an idempotency key wants to be.
        let key = Some(format!("ctl-{}", OperationId::mint()));
        read(&self.client.send(&Call { method, path, body, key, deadline: self.timeout }).await?)
    }

    /// `GET /api/agents`, of the living or of the deleted.
    ///
    /// # Errors
    /// As every call: what the daemon answered, or why it did not.
    pub async fn agents(&self, deleted: bool) -> Result<AgentList, Failure> {
        self.get(format!("/api/agents{}", if deleted { "?deleted=true" } else { "" })).await
    }

    /// `POST /api/agents/provision`.
    ///
    /// # Errors
    /// As every call.
    pub async fn provision(&self, request: &ProvisionRequest) -> Result<ProvisionReply, Failure> {
        self.change(Method::POST, "/api/agents/provision".to_owned(), json(request)?).await
    }

    /// `GET /api/instance/:id`.
    ///
    /// # Errors
    /// As every call.
    pub async fn instance(&self, target: &str) -> Result<InstanceView, Failure> {
        self.get(format!("/api/instance/{target}")).await
    }

    /// `POST /api/instance/:id/<verb>` with `start`, `stop`, `restart` or `repair`.
    ///
    /// # Errors
    /// As every call.
    pub async fn lifecycle(&self, target: &Target, verb: &str) -> Result<Value, Failure> {
        self.change(Method::POST, format!("/api/instance/{}/{verb}", target.as_str()), Bytes::new()).await
    }

    /// `DELETE /api/instance/:id`.
    ///
    /// # Errors
    /// As every call.
    pub async fn delete(&self, target: &Target, purge: bool) -> Result<Value, Failure> {
        let query = if purge { "?purge=true" } else { "" };
        self.change(Method::DELETE, format!("/api/instance/{}{query}", target.as_str()), Bytes::new()).await
    }

    /// `POST /api/instance/:id/undelete`.
    ///
    /// # Errors
    /// As every call.
    pub async fn undelete(&self, target: &Target, request: &UndeleteRequest) -> Result<Value, Failure> {
        self.change(Method::POST, format!("/api/instance/{}/undelete", target.as_str()), json(request)?).await
    }

    /// `GET /api/instance/:id/token`.
    ///
    /// # Errors
    /// As every call.
    pub async fn token(&self, target: &Target) -> Result<TokenReply, Failure> {
        self.get(format!("/api/instance/{}/token", target.as_str())).await
    }

    /// `POST /api/instance/:id/token/rotate`.
    ///
    /// # Errors
    /// As every call.
    pub async fn rotate(&self, target: &Target) -> Result<TokenReply, Failure> {
        self.change(Method::POST, format!("/api/instance/{}/token/rotate", target.as_str()), Bytes::new()).await
    }

    /// `GET /api/conversations?agentId=`.
    ///
    /// # Errors
    /// As every call.
    pub async fn conversations(&self, target: &str) -> Result<ConversationList, Failure> {
        self.get(format!("/api/conversations?agentId={target}")).await
    }

    /// `GET /api/agents/:id/messages`: one page, newest first.
    ///
    /// # Errors
    /// As every call.
    pub async fn messages(&self, target: &Target, limit: u32, offset: u64) -> Result<MessageList, Failure> {
        self.get(format!("/api/agents/{}/messages?limit={limit}&offset={offset}", target.as_str())).await
    }

    /// `GET /api/memory?agentId=`.
    ///
    /// # Errors
    /// As every call.
    pub async fn memory(&self, target: &Target) -> Result<MemoryView, Failure> {
        self.get(format!("/api/memory?agentId={}", target.as_str())).await
    }

    /// `POST /api/memory`.
    ///
    /// # Errors
    /// As every call.
    pub async fn remember(&self, write: &MemoryWrite) -> Result<Value, Failure> {
        self.change(Method::POST, "/api/memory".to_owned(), json(write)?).await
    }

    /// `GET /api/models`.
    ///
    /// # Errors
    /// As every call.
    pub async fn models(&self) -> Result<ModelList, Failure> {
        self.get("/api/models".to_owned()).await
    }

    /// `POST /api/models/test`.
    ///
    /// # Errors
    /// As every call; when the model does not answer.
    pub async fn test_model(&self, request: &ModelTest) -> Result<ModelTested, Failure> {
        self.change(Method::POST, "/api/models/test".to_owned(), json(request)?).await
    }

    /// `GET /api/models/discover`.
    ///
    /// # Errors
    /// As every call.
    pub async fn discover_models(&self) -> Result<Discovery, Failure> {
        self.get("/api/models/discover".to_owned()).await
    }

    /// `GET /api/operations` with a query that begins with `?`, or none.
    ///
    /// # Errors
    /// As every call.
    pub async fn operations(&self, query: &str) -> Result<OperationList, Failure> {
        self.get(format!("/api/operations{query}")).await
    }

    /// `GET /api/operations/:id`.
    ///
    /// # Errors
    /// As every call.
    pub async fn operation(&self, id: &OperationId) -> Result<Operation, Failure> {
        self.get(format!("/api/operations/{id}")).await
    }

    /// `GET /api/operations/:id/wait`: the operation when it has ended, or as it is after one second.
    ///
    /// # Errors
    /// As every call.
    pub async fn wait_a_second(&self, id: &OperationId) -> Result<Operation, Failure> {
        self.get(format!("/api/operations/{id}/wait?timeout=1")).await
    }

    /// `POST /api/operations/:id/cancel`.
    ///
    /// # Errors
    /// As every call.
    pub async fn cancel(&self, id: &OperationId) -> Result<Value, Failure> {
        self.change(Method::POST, format!("/api/operations/{id}/cancel"), Bytes::new()).await
    }

    /// `GET /api/health`, asked once.
    ///
    /// # Errors
    /// As every call.
    pub async fn health(&self) -> Result<Health, Failure> {
        read(&self.client.once(&question("/api/health".to_owned(), self.timeout.min(QUESTION))).await?)
    }

    /// `GET /api/status`.
    ///
    /// # Errors
    /// As every call.
    pub async fn status(&self) -> Result<DaemonStatus, Failure> {
        self.get("/api/status".to_owned()).await
    }
}

fn question(path: String, deadline: Duration) -> Call {
    Call { method: Method::GET, path, body: Bytes::new(), key: None, deadline }
}

fn json<T: serde::Serialize>(body: &T) -> Result<Bytes, Failure> {
    serde_json::to_vec(body)
        .map(Bytes::from)
        .map_err(|error| Failure::new(Exit::Failed, "internal", format!("the request cannot be written: {error}")))
}

/// The operation in an answer: the answer itself, or its field `operation`.
///
/// # Errors
/// When there is none.
pub fn operation_in(reply: &Value) -> Result<Operation, Failure> {
    let operation = reply.get("operation").unwrap_or(reply);
    if !operation.is_object() {
        return Err(bad_shape("it names no operation"));
    }
    serde_json::from_value(operation.clone()).map_err(|error| bad_shape(&format!("operation: {error}")))
}

/// Reads an answer: the value that was asked for, or the daemon's error.
fn read<T: DeserializeOwned>(reply: &Reply) -> Result<T, Failure> {
    if (200..300).contains(&reply.status) {
        return serde_json::from_slice(&reply.body).map_err(|error| bad_shape(&error.to_string()));
    }
    Err(refusal(reply.status, &reply.body))
}

/// The failure that an error answer tells of. Words this version does not know are kept; the status decides then.
#[must_use]
pub fn refusal(status: u16, body: &[u8]) -> Failure {
    let Ok(body) = serde_json::from_slice::<Value>(body) else {
        return bad_shape(&format!("status {status} without a JSON body"));
    };
    let text = |field: &str| body[field].as_str().map(str::to_owned);
    let Some(message) = text("message").or_else(|| text("error")) else {
        return bad_shape(&format!("status {status} without a message"));
    };
    let code = text("code").unwrap_or_else(|| format!("http_{status}"));
    let exit = Code::ALL
        .iter()
        .find(|known| known.as_str() == code)
        .map_or_else(|| Exit::of_status(status), |known| Exit::of(*known));
    Failure {
        hint: text("hint"),
        request_id: text("request_id"),
        operation: body.get("operation").and_then(|inner| serde_json::from_value(inner.clone()).ok()).map(Box::new),
        ..Failure::new(exit, &code, message)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn refused(status: u16, body: &Value) -> Failure {
        refusal(status, body.to_string().as_bytes())
    }

    #[test]
    fn an_error_answer_keeps_its_code_message_hint_and_request() {
        let failure = refused(
            404,
            &json!({"success": false, "status": "error", "error": "no", "code": "not_found", "message": "no such agent",
                    "hint": "list them", "request_id": "r1"}),
        );
        assert_eq!(failure.exit, Exit::NotFound);
        assert_eq!((failure.code.as_str(), failure.message.as_str()), ("not_found", "no such agent"));
        assert_eq!((failure.hint.as_deref(), failure.request_id.as_deref()), (Some("list them"), Some("r1")));
    }

    #[test]
    fn a_code_of_a_later_version_is_kept_and_its_status_decides() {
        let failure = refused(409, &json!({"error": "no", "code": "frozen", "message": "frozen"}));
        assert_eq!((failure.exit, failure.code.as_str()), (Exit::Conflict, "frozen"));
        assert_eq!(refused(403, &json!({"error": "no"})).exit, Exit::NotAllowed);
    }

    #[test]
    fn an_error_answer_of_another_shape_is_called_that() {
        assert_eq!(refusal(500, b"<html>").code, "bad_reply");
        assert_eq!(refused(500, &json!([])).code, "bad_reply");
    }
}
