// Renders a template of Argo CD notifications as its engine does: text/template with the functions that the
// template uses. Arguments: the file of the template, the file of the application as JSON.
package main

import (
	"encoding/json"
	"os"
	"text/template"
	"time"
)

func must(err error) {
	if err != nil {
		panic(err)
	}
}

func main() {
	text, err := os.ReadFile(os.Args[1])
	must(err)
	data, err := os.ReadFile(os.Args[2])
	must(err)
	var app map[string]interface{}
	must(json.Unmarshal(data, &app))
	functions := template.FuncMap{
		"toJson": func(value interface{}) string {
			encoded, err := json.Marshal(value)
			must(err)
			return string(encoded)
		},
	}
	variables := map[string]interface{}{
		"app":     app,
		"context": map[string]string{"argocdUrl": "https://argocd.test"},
		"time": map[string]interface{}{
			"Parse": func(text string) time.Time {
				parsed, err := time.Parse(time.RFC3339, text)
				must(err)
				return parsed
			},
		},
	}
	parsed, err := template.New("body").Funcs(functions).Parse(string(text))
	must(err)
	must(parsed.Execute(os.Stdout, variables))
}
