package server

import (
	"net/http"
	"slices"
)

// getRoot says what this is, for people who open the address in a browser.
func (s *Server) getRoot(w http.ResponseWriter, _ *http.Request) {
	_ = reply(w, map[string]string{"server": "hearth", "version": s.o.Version, "model": s.o.ModelID, "api": "/v1"})
}

// getHealth answers 200 with an empty body as long as requests are taken.
func (s *Server) getHealth(w http.ResponseWriter, r *http.Request) {
	if s.draining.Load() {
		writeError(w, r, errorOf(errDraining, ""))
		return
	}
	w.WriteHeader(http.StatusOK)
}

func (s *Server) getVersion(w http.ResponseWriter, _ *http.Request) {
	_ = reply(w, map[string]string{"version": s.o.Version})
}

// modelInfo describes a model as OpenAI does, with vLLM's additions.
type modelInfo struct {
	ID          string     `json:"id"`
	Object      string     `json:"object"`
	Created     int64      `json:"created"`
	OwnedBy     string     `json:"owned_by"`
	Root        string     `json:"root"`
	Parent      *string    `json:"parent"`
	MaxModelLen int        `json:"max_model_len"`
	Permission  []struct{} `json:"permission"`
}

func (s *Server) modelInfo(id string) modelInfo {
	return modelInfo{
		ID: id, Object: "model", Created: s.started.Unix(), OwnedBy: "hearth", Root: s.o.ModelID,
		MaxModelLen: s.o.MaxContext, Permission: []struct{}{},
	}
}

// getModels lists the model under each of its names.
func (s *Server) getModels(w http.ResponseWriter, _ *http.Request) {
	list := struct {
		Object string      `json:"object"`
		Data   []modelInfo `json:"data"`
	}{Object: "list", Data: []modelInfo{s.modelInfo(s.o.ModelID)}}
	for _, a := range s.o.Aliases {
		list.Data = append(list.Data, s.modelInfo(a))
	}
	_ = reply(w, list)
}

// getModel answers for one name. Names hold slashes, so it takes the rest of the path.
func (s *Server) getModel(w http.ResponseWriter, r *http.Request) {
	id := r.PathValue("id")
	if !s.serves(id) {
		writeError(w, r, errModelNotFound(id, s.o.ModelID))
		return
	}
	_ = reply(w, s.modelInfo(id))
}

func (s *Server) serves(model string) bool {
	return model == s.o.ModelID || slices.Contains(s.o.Aliases, model)
}
