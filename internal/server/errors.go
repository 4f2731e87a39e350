package server

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"

	"hearth/internal/engine"
)

// apiError is an error as OpenAI's clients expect it: {"error":{"message","type","param","code"}}.
type apiError struct {
	status  int
	message string
	kind    string // "type" on the wire
	param   string // JSON path of the field at fault; "" is null
	code    string // "" is null
	retry   int    // seconds for Retry-After; 0 leaves it out
}

func (e *apiError) Error() string { return e.message }

// MarshalJSON writes the error object, without the status.
func (e *apiError) MarshalJSON() ([]byte, error) {
	type body struct {
		Message string  `json:"message"`
		Type    string  `json:"type"`
		Param   *string `json:"param"`
		Code    *string `json:"code"`
	}
	b := body{Message: e.message, Type: e.kind}
	if e.param != "" {
		b.Param = &e.param
	}
	if e.code != "" {
		b.Code = &e.code
	}
	return json.Marshal(struct {
		Error body `json:"error"`
	}{b})
}

const kindInvalid = "invalid_request_error"

// invalid is the refusal of a request for the value of one field.
func invalid(param, code, format string, args ...any) *apiError {
	return &apiError{
		status: http.StatusBadRequest, kind: kindInvalid, param: param, code: code,
		message: fmt.Sprintf(format, args...),
	}
}

func errNotFound(r *http.Request) *apiError {
	return &apiError{
		status: http.StatusNotFound, kind: kindInvalid, code: "unknown_url",
		message: fmt.Sprintf("unknown request URL: %s %s", r.Method, r.URL.Path),
	}
}

func errMethod(r *http.Request, allow string) *apiError {
	return &apiError{
		status: http.StatusMethodNotAllowed, kind: kindInvalid, code: "method_not_allowed",
		message: fmt.Sprintf("%s is not allowed on %s, use %s", r.Method, r.URL.Path, allow),
	}
}

func errServer(format string, args ...any) *apiError {
	return &apiError{
		status: http.StatusInternalServerError, kind: "server_error", code: "server_error",
		message: fmt.Sprintf(format, args...),
	}
}

// errUnavailable asks the client to come back: clients of OpenAI retry a 503.
func errUnavailable(message string) *apiError {
	return &apiError{
		status: http.StatusServiceUnavailable, kind: "server_error", code: "service_unavailable",
		message: message, retry: 5,
	}
}

// errContext says with numbers why a prompt and its answer do not fit. param is the field that holds the prompt.
func errContext(param string, prompt, completion, limit int) *apiError {
	if completion <= 0 {
		return invalid(param, "context_length_exceeded",
			"the maximum context length is %d tokens, the prompt has %d and leaves no room for an answer", limit, prompt)
	}
	return invalid(param, "context_length_exceeded",
		"the maximum context length is %d tokens, the request needs %d: %d for the prompt and %d for the answer", limit, prompt+completion, prompt, completion)
}

// errModelNotFound is the answer to a model that is not served here.
func errModelNotFound(asked, served string) *apiError {
	return &apiError{
		status: http.StatusNotFound, kind: kindInvalid, param: "model", code: "model_not_found",
		message: fmt.Sprintf("the model %q does not exist, this server has %q", asked, served),
	}
}

// errorOf gives the answer to an error of the engine or of the body's reader. param is the field that holds the prompt.
func errorOf(err error, param string) *apiError {
	var api *apiError
	var tooLong *engine.ContextError
	var wrong *engine.RequestError
	var tooLarge *http.MaxBytesError
	switch {
	case errors.As(err, &api):
		return api
	case errors.As(err, &wrong):
		return invalid("", "invalid_value", "%v", err)
	case errors.As(err, &tooLong):
		return errContext(param, tooLong.Prompt, tooLong.Max, tooLong.Limit)
	case errors.As(err, &tooLarge):
		return &apiError{
			status: http.StatusRequestEntityTooLarge, kind: kindInvalid, code: "request_too_large",
			message: fmt.Sprintf("the request body is larger than %d bytes", tooLarge.Limit),
		}
	case errors.Is(err, engine.ErrQueueFull):
		return &apiError{
			status: http.StatusTooManyRequests, kind: "rate_limit_error", code: "rate_limit_exceeded", retry: 1,
			message: "the queue is full, try again in 1s",
		}
	case errors.Is(err, engine.ErrClosed), errors.Is(err, errDraining):
		return errUnavailable("the server is shutting down")
	case errors.Is(err, context.Canceled):
		// Nobody reads this: the client is gone.
		return errUnavailable("the request was cancelled")
	}
	return errServer("%v", err)
}
