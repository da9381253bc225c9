{{- define "kmip-operator.fullname" -}}
{{- if contains "kmip-operator" .Release.Name -}}
{{ .Release.Name | trunc 50 | trimSuffix "-" }}
{{- else -}}
{{ printf "%s-kmip-operator" .Release.Name | trunc 50 | trimSuffix "-" }}
{{- end -}}
{{- end -}}

{{- define "kmip-operator.serviceAccountName" -}}
{{- if .Values.serviceAccount.create -}}
{{ default (include "kmip-operator.fullname" .) .Values.serviceAccount.name }}
{{- else -}}
{{ required "serviceAccount.name: needed when serviceAccount.create is false" .Values.serviceAccount.name }}
{{- end -}}
{{- end -}}

{{- define "kmip-operator.selectorLabels" -}}
app.kubernetes.io/name: kmip-operator
app.kubernetes.io/instance: {{ .Release.Name | quote }}
{{- end -}}

{{- define "kmip-operator.labels" -}}
{{ include "kmip-operator.selectorLabels" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/part-of: kmip-operator
app.kubernetes.io/managed-by: {{ .Release.Service | quote }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{- end -}}

{{- define "kmip-operator.image" -}}
{{- $tag := default .root.Chart.AppVersion .image.tag -}}
{{ printf "%s:%s" .image.repository $tag }}
{{- end -}}
