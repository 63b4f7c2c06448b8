package awsjson_test

import (
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/lipdrop/lipdrop/internal/local/awsjson"
)

func TestOperations(t *testing.T) {
	type request struct{ Name string }
	operations := awsjson.Operations{"Service.Greet": awsjson.Operation(func(r request) (any, error) {
		switch r.Name {
		case "nobody":
			return nil, awsjson.Errorf("NotFound", "there is no %s", r.Name)
		case "broken":
			return nil, errors.New("the disk is full")
		}
		return map[string]string{"Greeting": "hello " + r.Name}, nil
	})}
	for name, row := range map[string]struct {
		target, body string
		status       int
		want         string
	}{
		"a request":                    {"Service.Greet", `{"Name": "you"}`, 200, `{"Greeting":"hello you"}`},
		"an error with a code":         {"Service.Greet", `{"Name": "nobody"}`, 400, `{"__type":"NotFound","message":"there is no nobody"}`},
		"an error without a code":      {"Service.Greet", `{"Name": "broken"}`, 500, `{"__type":"InternalFailure","message":"the disk is full"}`},
		"another operation":            {"Service.Leave", `{}`, 400, `"UnknownOperationException"`},
		"no operation":                 {"", `{}`, 400, `"UnknownOperationException"`},
		"an unknown member":            {"Service.Greet", `{"Title": "x"}`, 400, `"SerializationException"`},
		"a request that is not JSON":   {"Service.Greet", `<xml>`, 400, `"SerializationException"`},
		"a request of more than 2 MiB": {"Service.Greet", `{"Name": "` + strings.Repeat("x", 3<<20) + `"}`, 400, `"SerializationException"`},
	} {
		t.Run(name, func(t *testing.T) {
			r := httptest.NewRequest(http.MethodPost, "/", strings.NewReader(row.body))
			r.Header.Set("X-Amz-Target", row.target)
			w := httptest.NewRecorder()
			operations.Handler().ServeHTTP(w, r)
			if w.Code != row.status || !strings.Contains(w.Body.String(), row.want) {
				t.Errorf("HTTP status %d: %s, want %d: %s", w.Code, w.Body, row.status, row.want)
			}
		})
	}
}
